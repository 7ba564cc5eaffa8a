// Computes the expressions of a template; the base of what runs its statements.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"
#include "text/jinja/scope.h"

namespace trireme::jinja {

using ScopePtr = std::shared_ptr<Scope>;

class ExpressionEvaluator {
 protected:
  explicit ExpressionEvaluator(Runtime& runtime) : runtime_(runtime) {}

  // Counts how deep the evaluation is in itself, macros included.
  class Depth {
   public:
    explicit Depth(ExpressionEvaluator* evaluator) : evaluator_(evaluator) { ++evaluator_->depth_; }
    ~Depth() { --evaluator_->depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    ExpressionEvaluator* const evaluator_;
  };

  // One step, within the bounds of steps and depth.
  absl::Status Enter(int line);

  // The value of an expression in the current scope; an error has its line.
  absl::StatusOr<Value> Get(const Expr& expr);
  absl::StatusOr<Arguments> GetArguments(const Expr& expr);
  // An error of a macro's body has its line.
  static absl::Status WithLine(int line, const absl::Status& status);

  Runtime& runtime_;
  ScopePtr scope_;
  Value block_value_;  // what the innermost filter of a block is given

 private:
  absl::StatusOr<std::vector<Value>> GetAll(const std::vector<ExprPtr>& exprs);
  absl::StatusOr<Value> Compute(const Expr& expr);
  absl::StatusOr<Value> GetName(const std::string& name);
  absl::StatusOr<Value> ComputeDict(const Expr& expr);
  absl::StatusOr<Value> ComputeSlice(const Expr& expr);
  absl::StatusOr<Value> ComputeFilter(const Expr& expr);
  absl::StatusOr<Value> ComputeConcat(const Expr& expr);
  absl::StatusOr<Value> ComputeCompare(const Expr& expr);

  int depth_ = 0;
};

}  // namespace trireme::jinja
