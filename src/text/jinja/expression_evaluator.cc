#include "text/jinja/expression_evaluator.h"

#include "text/jinja/access.h"
#include "text/jinja/lexer.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/quoted.h"

namespace trireme::jinja {

absl::Status ExpressionEvaluator::Enter(int line) {
  const absl::Status status = runtime_.Spend();
  if (!status.ok()) return AtLine(line, status);
  if (depth_ <= runtime_.limits().depth) return absl::OkStatus();
  return AtLine(line, ResourceExhausted("the evaluation is nested more than ",
                                        runtime_.limits().depth, " deep"));
}

absl::Status ExpressionEvaluator::WithLine(int line, const absl::Status& status) {
  return std::string_view(status.message().data(), status.message().size()).starts_with("line ")
             ? status
             : AtLine(line, status);
}

absl::StatusOr<Value> ExpressionEvaluator::Get(const Expr& expr) {
  const Depth depth(this);
  RETURN_IF_ERROR(Enter(expr.line));
  absl::StatusOr<Value> value = Compute(expr);
  if (!value.ok()) return WithLine(expr.line, value.status());
  return value;
}

absl::StatusOr<std::vector<Value>> ExpressionEvaluator::GetAll(const std::vector<ExprPtr>& exprs) {
  std::vector<Value> values;
  values.reserve(exprs.size());
  for (const ExprPtr& expr : exprs) {
    ASSIGN_OR_RETURN(Value value, Get(*expr));
    values.push_back(std::move(value));
  }
  return values;
}

absl::StatusOr<Value> ExpressionEvaluator::Compute(const Expr& expr) {
  switch (expr.kind) {
    case Expr::kConst:
      return expr.value;
    case Expr::kName:
      return GetName(expr.text);
    case Expr::kList: {
      ASSIGN_OR_RETURN(std::vector<Value> items, GetAll(expr.parts));
      return runtime_.MakeList(std::move(items));
    }
    case Expr::kTuple: {
      ASSIGN_OR_RETURN(std::vector<Value> items, GetAll(expr.parts));
      return runtime_.MakeTuple(std::move(items));
    }
    case Expr::kDict:
      return ComputeDict(expr);
    case Expr::kAttribute: {
      ASSIGN_OR_RETURN(const Value value, Get(*expr.parts[0]));
      return GetAttribute(runtime_, value, expr.text);
    }
    case Expr::kItem: {
      ASSIGN_OR_RETURN(const Value value, Get(*expr.parts[0]));
      ASSIGN_OR_RETURN(const Value key, Get(*expr.parts[1]));
      return GetItem(runtime_, value, key);
    }
    case Expr::kSlice:
      return ComputeSlice(expr);
    case Expr::kCall: {
      ASSIGN_OR_RETURN(const Value callee, Get(*expr.parts[0]));
      ASSIGN_OR_RETURN(const Arguments arguments, GetArguments(expr));
      return CallValue(runtime_, callee, arguments);
    }
    case Expr::kFilter:
      return ComputeFilter(expr);
    case Expr::kTest: {
      if (expr.test == nullptr)
        return InvalidArgument("there is no test ", text::Quoted(expr.text));
      ASSIGN_OR_RETURN(const Value value, Get(*expr.parts[0]));
      ASSIGN_OR_RETURN(const Arguments arguments, GetArguments(expr));
      RETURN_IF_ERROR(runtime_.SpendOn(value));
      ASSIGN_OR_RETURN(const bool result, expr.test(runtime_, value, arguments));
      return Value::Bool(result);
    }
    case Expr::kNot: {
      ASSIGN_OR_RETURN(const Value value, Get(*expr.parts[0]));
      return Value::Bool(!Truth(value));
    }
    case Expr::kNegate: {
      ASSIGN_OR_RETURN(const Value value, Get(*expr.parts[0]));
      return Negate(value);
    }
    case Expr::kPlus: {
      ASSIGN_OR_RETURN(const Value value, Get(*expr.parts[0]));
      if (const std::optional<Int> n = value.AsInt()) return Value::Number(*n);
      if (value.is_float()) return value;
      return Negate(value);  // the error
    }
    case Expr::kAnd:
    case Expr::kOr: {
      ASSIGN_OR_RETURN(Value value, Get(*expr.parts[0]));
      return Truth(value) == (expr.kind == Expr::kAnd) ? Get(*expr.parts[1]) : std::move(value);
    }
    case Expr::kConcat:
      return ComputeConcat(expr);
    case Expr::kArithmetic: {
      ASSIGN_OR_RETURN(const Value left, Get(*expr.parts[0]));
      ASSIGN_OR_RETURN(const Value right, Get(*expr.parts[1]));
      return Arithmetic(runtime_, expr.text, left, right);
    }
    case Expr::kCompare:
      return ComputeCompare(expr);
    case Expr::kConditional: {
      ASSIGN_OR_RETURN(const Value condition, Get(*expr.parts[0]));
      if (Truth(condition)) return Get(*expr.parts[1]);
      if (expr.parts[2] != nullptr) return Get(*expr.parts[2]);
      return Value::Undefined("an inline `if` was false and had no `else`");
    }
    case Expr::kNamespaceItem:
      break;  // a target, never computed
  }
  return InvalidArgument("this expression cannot be computed");
}

absl::StatusOr<Value> ExpressionEvaluator::GetName(const std::string& name) {
  if (const Value* value = scope_->Find(name)) return *value;
  return FindGlobal(runtime_, name);
}

absl::StatusOr<Value> ExpressionEvaluator::ComputeDict(const Expr& expr) {
  std::vector<Dict::Entry> entries;
  for (size_t i = 0; i < expr.parts.size(); i += 2) {
    ASSIGN_OR_RETURN(Value key, Get(*expr.parts[i]));
    ASSIGN_OR_RETURN(Value value, Get(*expr.parts[i + 1]));
    entries.emplace_back(std::move(key), std::move(value));
  }
  return runtime_.MakeDict(std::move(entries));
}

absl::StatusOr<Value> ExpressionEvaluator::ComputeSlice(const Expr& expr) {
  ASSIGN_OR_RETURN(const Value value, Get(*expr.parts[0]));
  Value bounds[3];
  for (int i = 0; i < 3; ++i) {
    if (expr.parts[i + 1] == nullptr) continue;
    ASSIGN_OR_RETURN(bounds[i], Get(*expr.parts[i + 1]));
  }
  return Slice(runtime_, value, bounds[0], bounds[1], bounds[2]);
}

absl::StatusOr<Value> ExpressionEvaluator::ComputeFilter(const Expr& expr) {
  if (expr.filter == nullptr) {
    return InvalidArgument("there is no filter ", text::Quoted(expr.text));
  }
  Value value = block_value_;
  if (expr.parts[0] != nullptr) {
    ASSIGN_OR_RETURN(value, Get(*expr.parts[0]));
  }
  ASSIGN_OR_RETURN(const Arguments arguments, GetArguments(expr));
  RETURN_IF_ERROR(runtime_.SpendOn(value));
  return expr.filter(runtime_, value, arguments);
}

absl::StatusOr<Value> ExpressionEvaluator::ComputeConcat(const Expr& expr) {
  std::string out;
  for (const ExprPtr& part : expr.parts) {
    ASSIGN_OR_RETURN(const Value value, Get(*part));
    ASSIGN_OR_RETURN(const std::string text, Str(runtime_, value));
    out += text;
  }
  return runtime_.MakeText(std::move(out));
}

absl::StatusOr<Value> ExpressionEvaluator::ComputeCompare(const Expr& expr) {
  ASSIGN_OR_RETURN(Value left, Get(*expr.parts[0]));
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    ASSIGN_OR_RETURN(Value right, Get(*expr.parts[i + 1]));
    ASSIGN_OR_RETURN(const bool holds, Compare(runtime_, expr.operators[i], left, right));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<Arguments> ExpressionEvaluator::GetArguments(const Expr& expr) {
  const Call& call = expr.call;
  Arguments arguments;
  ASSIGN_OR_RETURN(arguments.positional, GetAll(call.positional));
  for (const auto& [name, part] : call.named) {
    ASSIGN_OR_RETURN(Value value, Get(*part));
    arguments.named.emplace_back(name, std::move(value));
  }
  if (call.star != nullptr) {
    ASSIGN_OR_RETURN(const Value star, Get(*call.star));
    ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime_, star));
    arguments.positional.insert(arguments.positional.end(), items.begin(), items.end());
  }
  if (call.double_star != nullptr) {
    ASSIGN_OR_RETURN(const Value double_star, Get(*call.double_star));
    const auto* dict = double_star.As<Dict>();
    if (dict == nullptr) return InvalidArgument("** needs a dict, not a ", double_star.TypeName());
    for (const auto& [key, value] : dict->entries) {
      ASSIGN_OR_RETURN(std::string name, ToText(key, "the name of an argument"));
      for (const auto& named : arguments.named) {
        if (named.first == name) return InvalidArgument("an argument is given twice");
      }
      arguments.named.emplace_back(std::move(name), value);
    }
  }
  return arguments;
}

}  // namespace trireme::jinja
