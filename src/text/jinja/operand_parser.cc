// The part of ExpressionParser behind its operators: literals, names and what follows them.
#include <algorithm>

#include "text/jinja/expression_parser.h"
#include "text/quoted.h"

namespace trireme::jinja {

ExpressionParser::SpecialName* ExpressionParser::SpecialNames::Find(std::string_view name) {
  return name == "caller"    ? &caller
         : name == "varargs" ? &varargs
         : name == "kwargs"  ? &kwargs
                             : nullptr;
}

void ExpressionParser::NoteLoad(const std::string& name) {
  for (SpecialNames& function : functions_) {
    SpecialName* special = function.Find(name);
    if (special != nullptr && !special->stored) special->loaded = true;
  }
}

void ExpressionParser::NoteUnknown(std::string_view what, const Token& name) {
  unknown_.push_back(
      AtLine(name.line, InvalidArgument("there is no ", what, " ", text::Quoted(name.text))));
}

absl::Status ExpressionParser::NoteStore(const std::string& name) {
  if (name == "loop" && loops_ > 0) return Fail("'loop' cannot be set in a loop");
  for (SpecialNames& function : functions_) {
    if (SpecialName* special = function.Find(name)) special->stored = true;
  }
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTargetPart(bool namespaces) {
  const Token token = Current();
  if (TakeOperator("(")) {
    const Nesting nesting(this);
    RETURN_IF_ERROR(nesting.status());
    ExprPtr tuple = Make(Expr::kTuple, token.line);
    bool comma = false;
    while (!IsOperator(")")) {
      if (!tuple->parts.empty()) {
        RETURN_IF_ERROR(ExpectOperator(","));
        comma = true;
        if (IsOperator(")")) break;
      }
      ASSIGN_OR_RETURN(ExprPtr part, ParseTargetPart(false));
      RETURN_IF_ERROR(Append(tuple.get(), std::move(part)));
    }
    Next();
    if (tuple->parts.size() == 1 && !comma) return std::move(tuple->parts[0]);
    return tuple;
  }
  constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False", "None"};
  if (token.kind != Token::kName ||
      std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved)) {
    return Fail("cannot assign to this; expected a name");
  }
  Next();
  if (namespaces && TakeOperator(".")) {
    ExprPtr item = Make(Expr::kNamespaceItem, token.line, token.text);
    item->attribute = Current().text;
    NoteLoad(token.text);
    RETURN_IF_ERROR(Expect(Token::kName, "a name"));
    return item;
  }
  RETURN_IF_ERROR(NoteStore(token.text));
  return Make(Expr::kName, token.line, token.text);
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTarget(bool namespaces) {
  ASSIGN_OR_RETURN(ExprPtr first, ParseTargetPart(namespaces));
  if (!IsOperator(",")) return first;
  ExprPtr tuple = Make(Expr::kTuple, first->line);
  RETURN_IF_ERROR(Append(tuple.get(), std::move(first)));
  while (TakeOperator(",")) {
    if (Current().kind == Token::kBlockEnd) break;
    ASSIGN_OR_RETURN(ExprPtr part, ParseTargetPart(namespaces));
    RETURN_IF_ERROR(Append(tuple.get(), std::move(part)));
  }
  return tuple;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePrimary() {
  const Token& token = Current();
  if (token.kind == Token::kName) {
    Next();
    ExprPtr expr = Make(Expr::kConst, token.line);
    if (token.text == "true" || token.text == "True") {
      expr->value = Value::Bool(true);
    } else if (token.text == "false" || token.text == "False") {
      expr->value = Value::Bool(false);
    } else if (token.text != "none" && token.text != "None") {
      NoteLoad(token.text);
      return Make(Expr::kName, token.line, token.text);
    }
    return expr;
  }
  if (token.kind == Token::kString) {  // "a" "b" is "ab"
    ExprPtr expr = Make(Expr::kConst, token.line);
    std::string text;
    for (; Current().kind == Token::kString; Next()) text += Current().value.text();
    expr->value = Value::String(std::move(text));
    return expr;
  }
  if (token.kind == Token::kInteger || token.kind == Token::kFloat) {
    Next();
    ExprPtr expr = Make(Expr::kConst, token.line);
    expr->value = token.value;
    return expr;
  }
  if (TakeOperator("(")) {
    ASSIGN_OR_RETURN(ExprPtr expr, ParseTuple({.parentheses = true}));
    RETURN_IF_ERROR(ExpectOperator(")"));
    return expr;
  }
  const bool dict = IsOperator("{");
  if (!dict && !IsOperator("[")) return Fail("expected an expression");
  const std::string_view close = dict ? "}" : "]";
  ExprPtr expr = Make(dict ? Expr::kDict : Expr::kList, token.line);
  Next();
  while (!IsOperator(close)) {
    if (!expr->parts.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    if (IsOperator(close)) break;
    ASSIGN_OR_RETURN(ExprPtr part, ParseExpression());
    RETURN_IF_ERROR(Append(expr.get(), std::move(part)));
    if (!dict) continue;
    RETURN_IF_ERROR(ExpectOperator(":"));
    ASSIGN_OR_RETURN(part, ParseExpression());
    RETURN_IF_ERROR(Append(expr.get(), std::move(part)));
  }
  Next();
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr expr) {
  for (;;) {
    if (IsOperator(".") || IsOperator("[")) {
      ASSIGN_OR_RETURN(expr, ParseSubscript(std::move(expr)));
    } else if (IsOperator("(")) {
      ASSIGN_OR_RETURN(expr, ParseCallOf(std::move(expr)));
    } else {
      return expr;
    }
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseCallOf(ExprPtr expr) {
  ExprPtr call = Make(Expr::kCall, Current().line);
  RETURN_IF_ERROR(Append(call.get(), std::move(expr)));
  ASSIGN_OR_RETURN(call->call, ParseCall());
  return call;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseSubscript(ExprPtr expr) {
  const int line = Current().line;
  if (TakeOperator("[")) return ParseSubscripted(std::move(expr));
  Next();  // .
  const Token& token = Current();
  Next();
  if (token.kind == Token::kName) {
    ExprPtr attribute = Make(Expr::kAttribute, line, token.text);
    RETURN_IF_ERROR(Append(attribute.get(), std::move(expr)));
    return attribute;
  }
  if (token.kind != Token::kInteger) return Fail("expected a name or a number behind '.'");
  ExprPtr item = Make(Expr::kItem, line);
  ExprPtr index = Make(Expr::kConst, line);
  index->value = token.value;
  RETURN_IF_ERROR(Append(item.get(), std::move(expr)));
  RETURN_IF_ERROR(Append(item.get(), std::move(index)));
  return item;
}

// Behind `[`: an item or a slice.
absl::StatusOr<ExprPtr> ExpressionParser::ParseSubscripted(ExprPtr expr) {
  ExprPtr subscript = Make(Expr::kItem, Current().line);
  RETURN_IF_ERROR(Append(subscript.get(), std::move(expr)));
  ExprPtr bounds[3];
  int n = 0;
  for (; n < 3; ++n) {
    if (!IsOperator(":") && !IsOperator("]")) {
      ASSIGN_OR_RETURN(bounds[n], ParseExpression());
    }
    if (!TakeOperator(":")) break;
    subscript->kind = Expr::kSlice;
  }
  if (subscript->kind == Expr::kItem && IsOperator(",")) {
    ExprPtr tuple = Make(Expr::kTuple, subscript->line);
    RETURN_IF_ERROR(Append(tuple.get(), std::move(bounds[0])));
    while (!IsOperator("]")) {
      RETURN_IF_ERROR(ExpectOperator(","));
      ASSIGN_OR_RETURN(ExprPtr part, ParseExpression());
      RETURN_IF_ERROR(Append(tuple.get(), std::move(part)));
    }
    bounds[0] = std::move(tuple);
  }
  if (n == 3) return Fail("a slice has at most three parts");
  RETURN_IF_ERROR(ExpectOperator("]"));
  const bool slice = subscript->kind == Expr::kSlice;
  if (!slice && bounds[0] == nullptr) {  // a[] is a[()]
    bounds[0] = Make(Expr::kTuple, subscript->line);
  }
  for (int i = 0; i < (slice ? 3 : 1); ++i) {
    RETURN_IF_ERROR(Append(subscript.get(), std::move(bounds[i])));
  }
  return subscript;
}

absl::StatusOr<Call> ExpressionParser::ParseCall() {
  Call call;
  RETURN_IF_ERROR(ExpectOperator("("));
  for (bool first = true; !IsOperator(")"); first = false) {
    if (!first) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (IsOperator(")")) break;
    }
    if (IsOperator("*") || IsOperator("**")) {
      ExprPtr& slot = IsOperator("*") ? call.star : call.double_star;
      if (slot != nullptr || call.double_star != nullptr) return Fail("this call cannot be read");
      Next();
      ASSIGN_OR_RETURN(slot, ParseExpression());
    } else if (Current().kind == Token::kName && Ahead().kind == Token::kOperator &&
               Ahead().text == "=") {
      std::string name = Current().text;
      for (const auto& named : call.named) {
        if (named.first == name) return Fail("an argument is given twice");
      }
      if (call.double_star != nullptr) return Fail("this call cannot be read");
      Next();
      Next();
      ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (call.star != nullptr || call.double_star != nullptr || !call.named.empty()) {
        return Fail("an argument without a name follows one that has it");
      }
      ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      call.positional.push_back(std::move(value));
    }
  }
  Next();
  return call;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseFilterExpr(ExprPtr expr) {
  for (;;) {
    if (IsOperator("|")) {
      ASSIGN_OR_RETURN(expr, ParseFilters(std::move(expr)));
    } else if (IsName("is")) {
      ASSIGN_OR_RETURN(expr, ParseTest(std::move(expr)));
    } else if (IsOperator("(")) {
      ASSIGN_OR_RETURN(expr, ParseCallOf(std::move(expr)));
    } else {
      return expr;
    }
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseFilters(ExprPtr expr, bool started) {
  for (; started || IsOperator("|"); started = false) {
    if (!started) Next();
    const Token& token = Current();
    RETURN_IF_ERROR(Expect(Token::kName, "the name of a filter"));
    ExprPtr filter = Make(Expr::kFilter, token.line, token.text);
    filter->filter = FindFilter(token.text);
    if (filter->filter == nullptr && !soft_) NoteUnknown("filter", token);
    RETURN_IF_ERROR(Append(filter.get(), std::move(expr)));
    if (IsOperator("(")) {
      ASSIGN_OR_RETURN(filter->call, ParseCall());
    }
    expr = std::move(filter);
  }
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTest(ExprPtr expr) {
  Next();  // is
  const bool negated = TakeName("not");
  const Token& token = Current();
  RETURN_IF_ERROR(Expect(Token::kName, "the name of a test"));
  ExprPtr test = Make(Expr::kTest, token.line, token.text);
  test->test = FindTest(token.text);
  if (test->test == nullptr && !soft_) NoteUnknown("test", token);
  RETURN_IF_ERROR(Append(test.get(), std::move(expr)));
  const Token::Kind kind = Current().kind;
  if (IsOperator("(")) {
    ASSIGN_OR_RETURN(test->call, ParseCall());
  } else if ((kind == Token::kName || kind == Token::kString || kind == Token::kInteger ||
              kind == Token::kFloat || IsOperator("[") || IsOperator("{")) &&
             !IsName("else") && !IsName("or") && !IsName("and")) {
    if (IsName("is")) return Fail("tests cannot be chained with 'is'");
    ASSIGN_OR_RETURN(ExprPtr argument, ParsePrimary());
    ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    test->call.positional.push_back(std::move(argument));
  }
  if (!negated) return test;
  ExprPtr expression = Make(Expr::kNot, test->line);
  RETURN_IF_ERROR(Append(expression.get(), std::move(test)));
  return expression;
}

}  // namespace trireme::jinja
