// The expressions of a template; the base of the parser of its statements.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace trireme::jinja {

class ExpressionParser {
 protected:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // Counts how deep the parser is in itself.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser* parser) : parser_(parser) { ++parser_->nesting_; }
    ~Nesting() { --parser_->nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    absl::Status status() const;

   private:
    ExpressionParser* const parser_;
  };

  const Token& Current() const { return tokens_[pos_]; }
  const Token& Ahead() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  void Next() { pos_ = std::min(pos_ + 1, tokens_.size() - 1); }
  bool IsName(std::string_view name) const;
  bool IsOperator(std::string_view op) const;
  bool TakeName(std::string_view name);
  bool TakeOperator(std::string_view op);
  absl::Status Expect(Token::Kind kind, std::string_view shown);
  absl::Status ExpectOperator(std::string_view op);
  absl::Status Fail(std::string_view what) const;

  struct TupleOptions {
    bool conditional = true;   // whether `a if b` may stand in it
    bool parentheses = false;  // it stands in parentheses: it may be empty
  };
  // One expression, or several with commas: a tuple.
  absl::StatusOr<ExprPtr> ParseTuple() { return ParseTuple(TupleOptions()); }
  absl::StatusOr<ExprPtr> ParseTuple(const TupleOptions& options);
  absl::StatusOr<ExprPtr> ParseExpression(bool conditional = true);
  // |a|b(c) behind `expr`, null for that of a block; `started`: the first has no '|'.
  absl::StatusOr<ExprPtr> ParseFilters(ExprPtr expr, bool started = false);
  // What a loop or `set` assigns to: names, and with `namespaces` a.b, too.
  absl::StatusOr<ExprPtr> ParseTarget(bool namespaces);
  absl::Status NoteStore(const std::string& name);

  // Which of the names that a call gives to a macro by itself its body loads before it sets them.
  struct SpecialName {
    bool loaded = false, stored = false;
  };
  struct SpecialNames {
    SpecialName caller, varargs, kwargs;
    SpecialName* Find(std::string_view name);
  };

  std::vector<SpecialNames> functions_;  // the macros around the current token
  int loops_ = 0;                        // the loops around it
  // Within an `if` an unknown filter or test is an error only when it is reached; elsewhere it is
  // one of these.
  bool soft_ = false;
  std::vector<absl::Status> unknown_;

 private:
  using Parse = absl::StatusOr<ExprPtr> (ExpressionParser::*)();

  absl::StatusOr<ExprPtr> ParseConditional();
  absl::StatusOr<ExprPtr> ParseOr();
  absl::StatusOr<ExprPtr> ParseAnd();
  absl::StatusOr<ExprPtr> ParseNot();
  absl::StatusOr<ExprPtr> ParseCompare();
  absl::StatusOr<ExprPtr> ParseSum();
  absl::StatusOr<ExprPtr> ParseConcat();
  absl::StatusOr<ExprPtr> ParseProduct();
  absl::StatusOr<ExprPtr> ParsePower();
  absl::StatusOr<ExprPtr> ParseUnary() { return ParseUnary(true); }
  absl::StatusOr<ExprPtr> ParseUnary(bool filters);
  absl::StatusOr<ExprPtr> ParsePrimary();
  absl::StatusOr<ExprPtr> ParsePostfix(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParseSubscript(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParseSubscripted(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParseFilterExpr(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParseTest(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParseCallOf(ExprPtr expr);
  absl::StatusOr<Call> ParseCall();
  absl::StatusOr<ExprPtr> ParseTargetPart(bool namespaces);

  // a op b op c, from the left.
  absl::StatusOr<ExprPtr> ParseBinary(Parse part,
                                      std::initializer_list<std::string_view> operators);

  void NoteLoad(const std::string& name);
  void NoteUnknown(std::string_view what, const Token& name);
  static ExprPtr Make(Expr::Kind kind, int line, std::string text = "");
  // Hangs `part` into `expr`.
  absl::Status Append(Expr* expr, ExprPtr part);
  absl::Status CheckDepth(Expr* expr, int depth_of_part) const;

  const std::vector<Token> tokens_;
  size_t pos_ = 0;
  int nesting_ = 0;
};

}  // namespace trireme::jinja
