#include "text/jinja/parser.h"

#include <algorithm>

#include "text/jinja/expression_parser.h"
#include "text/quoted.h"

namespace trireme::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;

class Parser : private ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  absl::StatusOr<Body> Run() {
    Body body;
    RETURN_IF_ERROR(ParseBody({}, &body));
    if (!unknown_.empty()) return unknown_.front();
    return body;
  }

 private:
  static std::unique_ptr<Stmt> Make(Stmt::Kind kind, int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = line;
    return stmt;
  }

  // Up to a tag of one of these names, which stays; to the end of the template if there are none.
  absl::Status ParseBody(Names end, Body* body) {
    const int line = Current().line;
    for (;;) {
      const Token& token = Current();
      if (token.kind == Token::kEnd) {
        if (end.size() == 0) return absl::OkStatus();
        return AtLine(line,
                      InvalidArgument("the template ends before {% ", *(end.end() - 1), " %}"));
      }
      Next();
      if (token.kind == Token::kData) {
        body->push_back(Make(Stmt::kData, token.line));
        body->back()->text = token.text;
      } else if (token.kind == Token::kVariableBegin) {
        body->push_back(Make(Stmt::kPrint, token.line));
        ASSIGN_OR_RETURN(body->back()->expr, ParseTuple());
        RETURN_IF_ERROR(Expect(Token::kVariableEnd, "}}"));
      } else {
        for (std::string_view name : end) {
          if (IsName(name)) return absl::OkStatus();
        }
        const Nesting nesting(this);
        RETURN_IF_ERROR(nesting.status());
        RETURN_IF_ERROR(ParseStatement(body));
        RETURN_IF_ERROR(Expect(Token::kBlockEnd, "%}"));
      }
    }
  }

  // `%}`, then a body and its end tag, up to the `%}` of that.
  absl::Status ParseBlock(Names end, Body* body) {
    TakeOperator(":");
    RETURN_IF_ERROR(Expect(Token::kBlockEnd, "%}"));
    return ParseBody(end, body);
  }
  absl::Status ParseLastBlock(std::string_view end, Body* body) {
    RETURN_IF_ERROR(ParseBlock({end}, body));
    Next();
    return absl::OkStatus();
  }

  absl::Status ParseStatement(Body* body) {
    const Token& token = Current();
    if (token.kind != Token::kName) return Fail("a tag must begin with its name");
    const std::string& name = token.text;
    Next();
    if (name == "print") return ParsePrint(body);
    std::unique_ptr<Stmt> stmt = Make(Stmt::kIf, token.line);
    absl::Status status;
    if (name == "if") {
      status = ParseIf(stmt.get());
    } else if (name == "for") {
      status = ParseFor(stmt.get());
    } else if (name == "set") {
      status = ParseSet(stmt.get());
    } else if (name == "macro") {
      status = ParseMacro(stmt.get());
    } else if (name == "call") {
      status = ParseCallBlock(stmt.get());
    } else if (name == "filter") {
      status = ParseFilterBlock(stmt.get());
    } else if (name == "with") {
      status = ParseWith(stmt.get());
    } else if (name == "generation") {
      stmt->kind = Stmt::kGeneration;
      status = InFunction(&stmt->parameters,
                          [&] { return ParseLastBlock("endgeneration", &stmt->body); });
    } else if (name == "break" || name == "continue") {
      stmt->kind = name == "break" ? Stmt::kBreak : Stmt::kContinue;
      if (!in_loop_)
        status = InvalidArgument("line ", token.line, ": {% ", name, " %} outside of a loop");
    } else if (name == "include" || name == "import" || name == "from" || name == "extends" ||
               name == "block" || name == "autoescape") {
      status = AtLine(token.line, Unimplemented("{% ", name, " %} is not supported"));
    } else {
      status = AtLine(token.line, InvalidArgument("unexpected tag ", text::Quoted(name)));
    }
    body->push_back(std::move(stmt));
    return status;
  }

  absl::Status ParsePrint(Body* body) {
    for (bool first = true; Current().kind != Token::kBlockEnd; first = false) {
      if (!first) RETURN_IF_ERROR(ExpectOperator(","));
      body->push_back(Make(Stmt::kPrint, Current().line));
      ASSIGN_OR_RETURN(body->back()->expr, ParseExpression());
    }
    return absl::OkStatus();
  }

  absl::Status ParseIf(Stmt* stmt) {
    const bool was_soft = std::exchange(soft_, true);
    for (;;) {
      stmt->branches.emplace_back();
      ASSIGN_OR_RETURN(stmt->branches.back().first, ParseTuple({.conditional = false}));
      RETURN_IF_ERROR(ParseBlock({"elif", "else", "endif"}, &stmt->branches.back().second));
      if (!TakeName("elif")) break;
    }
    if (TakeName("else")) {
      RETURN_IF_ERROR(ParseLastBlock("endif", &stmt->otherwise));
    } else {
      Next();
    }
    soft_ = was_soft;
    return absl::OkStatus();
  }

  absl::Status ParseFor(Stmt* stmt) {
    stmt->kind = Stmt::kFor;
    ++loops_;
    ASSIGN_OR_RETURN(stmt->target, ParseTarget(false));
    if (!TakeName("in")) return Fail("expected 'in'");
    ASSIGN_OR_RETURN(stmt->expr, ParseTuple({.conditional = false}));
    const bool was_soft = std::exchange(soft_, false);
    if (TakeName("if")) {
      ASSIGN_OR_RETURN(stmt->condition, ParseExpression());
    }
    if (IsName("recursive")) {
      return AtLine(Current().line, Unimplemented("recursive loops are not supported"));
    }
    const bool was_in_loop = std::exchange(in_loop_, true);
    RETURN_IF_ERROR(ParseBlock({"endfor", "else"}, &stmt->body));
    in_loop_ = was_in_loop;
    if (TakeName("else")) {
      RETURN_IF_ERROR(ParseLastBlock("endfor", &stmt->otherwise));
    } else {
      Next();
    }
    --loops_;
    soft_ = was_soft;
    return absl::OkStatus();
  }

  absl::Status ParseSet(Stmt* stmt) {
    ASSIGN_OR_RETURN(stmt->target, ParseTarget(true));
    if (TakeOperator("=")) {
      stmt->kind = Stmt::kSet;
      ASSIGN_OR_RETURN(stmt->expr, ParseTuple());
      return absl::OkStatus();
    }
    stmt->kind = Stmt::kSetBlock;
    const bool was_soft = std::exchange(soft_, false);
    ASSIGN_OR_RETURN(stmt->expr, ParseFilters(nullptr));
    RETURN_IF_ERROR(ParseLastBlock("endset", &stmt->body));
    soft_ = was_soft;
    return absl::OkStatus();
  }

  absl::Status ParseMacro(Stmt* stmt) {
    stmt->kind = Stmt::kMacro;
    if (Current().kind != Token::kName) return Fail("a macro needs a name");
    stmt->text = Current().text;
    RETURN_IF_ERROR(NoteStore(stmt->text));
    Next();
    return InFunction(&stmt->parameters, [&]() -> absl::Status {
      RETURN_IF_ERROR(ParseParameters(&stmt->parameters));
      return ParseLastBlock("endmacro", &stmt->body);
    });
  }

  absl::Status ParseCallBlock(Stmt* stmt) {
    stmt->kind = Stmt::kCallBlock;
    return InFunction(&stmt->parameters, [&]() -> absl::Status {
      if (IsOperator("(")) RETURN_IF_ERROR(ParseParameters(&stmt->parameters));
      ASSIGN_OR_RETURN(stmt->expr, ParseExpression());
      if (stmt->expr->kind != Expr::kCall) return Fail("{% call %} needs a call");
      return ParseLastBlock("endcall", &stmt->body);
    });
  }

  absl::Status ParseFilterBlock(Stmt* stmt) {
    stmt->kind = Stmt::kFilterBlock;
    const bool was_soft = std::exchange(soft_, false);
    ASSIGN_OR_RETURN(stmt->expr, ParseFilters(nullptr, true));
    RETURN_IF_ERROR(ParseLastBlock("endfilter", &stmt->body));
    soft_ = was_soft;
    return absl::OkStatus();
  }

  absl::Status ParseWith(Stmt* stmt) {
    stmt->kind = Stmt::kWith;
    while (Current().kind != Token::kBlockEnd) {
      if (!stmt->assignments.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      stmt->assignments.emplace_back();
      ASSIGN_OR_RETURN(stmt->assignments.back().first, ParseTarget(false));
      RETURN_IF_ERROR(ExpectOperator("="));
      ASSIGN_OR_RETURN(stmt->assignments.back().second, ParseExpression());
    }
    const bool was_soft = std::exchange(soft_, false);
    RETURN_IF_ERROR(ParseLastBlock("endwith", &stmt->body));
    soft_ = was_soft;
    return absl::OkStatus();
  }

  // (a, b, c=1)
  absl::Status ParseParameters(Parameters* parameters) {
    RETURN_IF_ERROR(ExpectOperator("("));
    while (!IsOperator(")")) {
      if (!parameters->names.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      if (Current().kind != Token::kName) return Fail("expected the name of a parameter");
      const std::string& name = Current().text;
      if (std::find(parameters->names.begin(), parameters->names.end(), name) !=
          parameters->names.end()) {
        return Fail(StrCat("the parameter ", text::Quoted(name), " is there twice"));
      }
      RETURN_IF_ERROR(NoteStore(name));
      parameters->names.push_back(name);
      Next();
      if (TakeOperator("=")) {
        ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
        parameters->defaults.push_back(std::move(value));
      } else if (!parameters->defaults.empty()) {
        return Fail("a parameter without a default follows one that has it");
      }
    }
    return ExpectOperator(")");
  }

  // What is parsed is a function of its own: break and continue do not reach out of it.
  template <typename Parse>
  absl::Status InFunction(Parameters* parameters, const Parse& parse) {
    const bool was_in_loop = std::exchange(in_loop_, false);
    const bool was_soft = std::exchange(soft_, false);
    functions_.push_back({});
    RETURN_IF_ERROR(parse());
    const SpecialNames names = functions_.back();
    functions_.pop_back();
    parameters->takes_caller = names.caller.loaded;
    parameters->takes_varargs = names.varargs.loaded;
    parameters->takes_kwargs = names.kwargs.loaded;
    in_loop_ = was_in_loop;
    soft_ = was_soft;
    return absl::OkStatus();
  }

  bool in_loop_ = false;
};

}  // namespace

absl::StatusOr<Body> Parse(std::string_view source) {
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace trireme::jinja
