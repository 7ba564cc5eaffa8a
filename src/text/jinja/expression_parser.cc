#include "text/jinja/expression_parser.h"

#include <algorithm>

#include "text/jinja/parser.h"
#include "text/quoted.h"

namespace trireme::jinja {

absl::Status ExpressionParser::Nesting::status() const {
  if (parser_->nesting_ <= kMaxNesting) return absl::OkStatus();
  return AtLine(parser_->Current().line,
                ResourceExhausted("the template is nested more than ", kMaxNesting, " deep"));
}

bool ExpressionParser::IsName(std::string_view name) const {
  return Current().kind == Token::kName && Current().text == name;
}
bool ExpressionParser::IsOperator(std::string_view op) const {
  return Current().kind == Token::kOperator && Current().text == op;
}
bool ExpressionParser::TakeName(std::string_view name) {
  if (!IsName(name)) return false;
  Next();
  return true;
}
bool ExpressionParser::TakeOperator(std::string_view op) {
  if (!IsOperator(op)) return false;
  Next();
  return true;
}

absl::Status ExpressionParser::Fail(std::string_view what) const {
  const Token& token = Current();
  std::string found;
  switch (token.kind) {
    case Token::kEnd:
      found = "the end of the template";
      break;
    case Token::kVariableEnd:
      found = "'}}'";
      break;
    case Token::kBlockEnd:
      found = "'%}'";
      break;
    default:
      found = text::Quoted(token.text);
  }
  return AtLine(token.line, InvalidArgument(what, ", found ", found));
}

absl::Status ExpressionParser::Expect(Token::Kind kind, std::string_view shown) {
  if (Current().kind != kind) return Fail(StrCat("expected '", shown, "'"));
  Next();
  return absl::OkStatus();
}

absl::Status ExpressionParser::ExpectOperator(std::string_view op) {
  return TakeOperator(op) ? absl::OkStatus() : Fail(StrCat("expected '", op, "'"));
}

ExprPtr ExpressionParser::Make(Expr::Kind kind, int line, std::string text) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  expr->text = std::move(text);
  return expr;
}

absl::Status ExpressionParser::CheckDepth(Expr* expr, int depth_of_part) const {
  expr->depth = std::max(expr->depth, 1 + depth_of_part);
  if (expr->depth <= kMaxExpressionDepth) return absl::OkStatus();
  return AtLine(expr->line, ResourceExhausted("an expression is nested more than ",
                                              kMaxExpressionDepth, " deep"));
}

absl::Status ExpressionParser::Append(Expr* expr, ExprPtr part) {
  if (part != nullptr) RETURN_IF_ERROR(CheckDepth(expr, part->depth));
  expr->parts.push_back(std::move(part));
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTuple(const TupleOptions& options) {
  ExprPtr tuple = Make(Expr::kTuple, Current().line);
  bool comma = false;
  for (;;) {
    if (!tuple->parts.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    const Token::Kind kind = Current().kind;
    if (kind == Token::kVariableEnd || kind == Token::kBlockEnd || IsOperator(")")) {
      break;
    }
    ASSIGN_OR_RETURN(ExprPtr part, ParseExpression(options.conditional));
    RETURN_IF_ERROR(Append(tuple.get(), std::move(part)));
    if (!IsOperator(",")) break;
    comma = true;
  }
  if (comma) return tuple;
  if (!tuple->parts.empty()) return std::move(tuple->parts[0]);
  if (!options.parentheses) return Fail("expected an expression");
  return tuple;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseExpression(bool conditional) {
  const Nesting nesting(this);
  RETURN_IF_ERROR(nesting.status());
  return conditional ? ParseConditional() : ParseOr();
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseConditional() {
  const int line = Current().line;
  const size_t n_unknown = unknown_.size();
  ASSIGN_OR_RETURN(ExprPtr expr, ParseOr());
  while (TakeName("if")) {
    ExprPtr conditional = Make(Expr::kConditional, line);
    ASSIGN_OR_RETURN(ExprPtr condition, ParseOr());
    RETURN_IF_ERROR(Append(conditional.get(), std::move(condition)));
    RETURN_IF_ERROR(Append(conditional.get(), std::move(expr)));
    ExprPtr otherwise;
    if (TakeName("else")) {
      const Nesting nesting(this);
      RETURN_IF_ERROR(nesting.status());
      ASSIGN_OR_RETURN(otherwise, ParseConditional());
    }
    RETURN_IF_ERROR(Append(conditional.get(), std::move(otherwise)));
    expr = std::move(conditional);
    unknown_.resize(n_unknown);
  }
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseOr() {
  ASSIGN_OR_RETURN(ExprPtr left, ParseAnd());
  while (IsName("or")) {
    ExprPtr expr = Make(Expr::kOr, Current().line);
    Next();
    RETURN_IF_ERROR(Append(expr.get(), std::move(left)));
    ASSIGN_OR_RETURN(ExprPtr right, ParseAnd());
    RETURN_IF_ERROR(Append(expr.get(), std::move(right)));
    left = std::move(expr);
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseAnd() {
  ASSIGN_OR_RETURN(ExprPtr left, ParseNot());
  while (IsName("and")) {
    ExprPtr expr = Make(Expr::kAnd, Current().line);
    Next();
    RETURN_IF_ERROR(Append(expr.get(), std::move(left)));
    ASSIGN_OR_RETURN(ExprPtr right, ParseNot());
    RETURN_IF_ERROR(Append(expr.get(), std::move(right)));
    left = std::move(expr);
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseNot() {
  if (!IsName("not")) return ParseCompare();
  const Nesting nesting(this);
  RETURN_IF_ERROR(nesting.status());
  ExprPtr expr = Make(Expr::kNot, Current().line);
  Next();
  ASSIGN_OR_RETURN(ExprPtr part, ParseNot());
  RETURN_IF_ERROR(Append(expr.get(), std::move(part)));
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseCompare() {
  ASSIGN_OR_RETURN(ExprPtr first, ParseSum());
  ExprPtr expr;
  for (;;) {
    std::string op;
    for (std::string_view candidate : {"==", "!=", "<", "<=", ">", ">="}) {
      if (IsOperator(candidate)) op = candidate;
    }
    if (IsName("in")) op = "in";
    if (IsName("not") && Ahead().kind == Token::kName && Ahead().text == "in") {
      op = "notin";
      Next();
    }
    if (op.empty()) break;
    if (expr == nullptr) {
      expr = Make(Expr::kCompare, Current().line);
      RETURN_IF_ERROR(Append(expr.get(), std::move(first)));
    }
    Next();
    expr->operators.push_back(op);
    ASSIGN_OR_RETURN(ExprPtr part, ParseSum());
    RETURN_IF_ERROR(Append(expr.get(), std::move(part)));
  }
  return expr == nullptr ? std::move(first) : std::move(expr);
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseBinary(
    Parse part, std::initializer_list<std::string_view> operators) {
  ASSIGN_OR_RETURN(ExprPtr left, (this->*part)());
  const auto is_next = [&] {
    return std::any_of(operators.begin(), operators.end(),
                       [&](std::string_view op) { return IsOperator(op); });
  };
  while (is_next()) {
    ExprPtr expr = Make(Expr::kArithmetic, Current().line, Current().text);
    Next();
    RETURN_IF_ERROR(Append(expr.get(), std::move(left)));
    ASSIGN_OR_RETURN(ExprPtr right, (this->*part)());
    RETURN_IF_ERROR(Append(expr.get(), std::move(right)));
    left = std::move(expr);
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseSum() {
  return ParseBinary(&ExpressionParser::ParseConcat, {"+", "-"});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseConcat() {
  ASSIGN_OR_RETURN(ExprPtr first, ParseProduct());
  if (!IsOperator("~")) return first;
  ExprPtr expr = Make(Expr::kConcat, Current().line);
  RETURN_IF_ERROR(Append(expr.get(), std::move(first)));
  while (TakeOperator("~")) {
    ASSIGN_OR_RETURN(ExprPtr part, ParseProduct());
    RETURN_IF_ERROR(Append(expr.get(), std::move(part)));
  }
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseProduct() {
  return ParseBinary(&ExpressionParser::ParsePower, {"*", "/", "//", "%"});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePower() {  // from the left, unlike Python's
  return ParseBinary(&ExpressionParser::ParseUnary, {"**"});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseUnary(bool filters) {
  ExprPtr expr;
  if (IsOperator("-") || IsOperator("+")) {
    const Nesting nesting(this);
    RETURN_IF_ERROR(nesting.status());
    expr = Make(IsOperator("-") ? Expr::kNegate : Expr::kPlus, Current().line);
    Next();
    ASSIGN_OR_RETURN(ExprPtr part, ParseUnary(false));
    RETURN_IF_ERROR(Append(expr.get(), std::move(part)));
  } else {
    ASSIGN_OR_RETURN(expr, ParsePrimary());
  }
  ASSIGN_OR_RETURN(expr, ParsePostfix(std::move(expr)));
  if (filters) return ParseFilterExpr(std::move(expr));
  return expr;
}

}  // namespace trireme::jinja
