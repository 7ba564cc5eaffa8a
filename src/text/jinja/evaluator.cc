#include "text/jinja/evaluator.h"

#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/expression_evaluator.h"
#include "text/jinja/lexer.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/quoted.h"

namespace trireme::jinja {
namespace {

enum class Flow { kNext, kBreak, kContinue };

class Evaluator : private ExpressionEvaluator {
 public:
  explicit Evaluator(Runtime& runtime) : ExpressionEvaluator(runtime) {}

  absl::StatusOr<std::string> Run(const Body& body,
                                  std::vector<std::pair<std::string, Value>> variables) {
    scope_ = std::make_shared<Scope>(nullptr);
    for (auto& [name, value] : variables) scope_->Set(name, std::move(value));
    std::string out;
    RETURN_IF_ERROR(Print(body, &out).status());
    return out;
  }

 private:
  // Sets the current scope for as long as it lives.
  class InScope {
   public:
    InScope(Evaluator* evaluator, std::shared_ptr<const Scope> outer)
        : evaluator_(evaluator),
          before_(std::exchange(evaluator->scope_, std::make_shared<Scope>(std::move(outer)))) {}
    ~InScope() { evaluator_->scope_ = before_; }
    InScope(const InScope&) = delete;
    InScope& operator=(const InScope&) = delete;

   private:
    Evaluator* const evaluator_;
    ScopePtr before_;
  };

  // --- statements

  absl::StatusOr<Flow> Print(const Body& body, std::string* out) {
    for (const auto& stmt : body) {
      ASSIGN_OR_RETURN(const Flow flow, Print(*stmt, out));
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  absl::Status Append(int line, std::string_view text, std::string* out) {
    const absl::Status status = runtime_.Charge(text.size());
    if (!status.ok()) return AtLine(line, status);
    *out += text;
    return absl::OkStatus();
  }

  absl::StatusOr<Flow> Print(const Stmt& stmt, std::string* out) {
    const Depth depth(this);
    RETURN_IF_ERROR(Enter(stmt.line));
    switch (stmt.kind) {
      case Stmt::kData:
        RETURN_IF_ERROR(Append(stmt.line, stmt.text, out));
        return Flow::kNext;
      case Stmt::kPrint:
        RETURN_IF_ERROR(PrintValue(stmt, out));
        return Flow::kNext;
      case Stmt::kIf:
        return PrintIf(stmt, out);
      case Stmt::kFor:
        return PrintFor(stmt, out);
      case Stmt::kSet: {
        ASSIGN_OR_RETURN(const Value value, Get(*stmt.expr));
        RETURN_IF_ERROR(Assign(*stmt.target, value));
        return Flow::kNext;
      }
      case Stmt::kSetBlock:
        return SetBlock(stmt);
      case Stmt::kMacro: {
        ASSIGN_OR_RETURN(const Value macro, MakeMacro(stmt));
        scope_->Set(stmt.text, macro);
        return Flow::kNext;
      }
      case Stmt::kCallBlock:
        RETURN_IF_ERROR(CallBlock(stmt, out));
        return Flow::kNext;
      case Stmt::kFilterBlock:
        return FilterBlock(stmt, out);
      case Stmt::kWith: {
        std::vector<Value> values;
        for (const auto& assignment : stmt.assignments) {
          ASSIGN_OR_RETURN(Value value, Get(*assignment.second));
          values.push_back(std::move(value));
        }
        const InScope in_scope(this, scope_);
        for (size_t i = 0; i < values.size(); ++i) {
          RETURN_IF_ERROR(Assign(*stmt.assignments[i].first, values[i]));
        }
        return Print(stmt.body, out);
      }
      case Stmt::kGeneration: {
        const InScope in_scope(this, scope_);
        return Print(stmt.body, out);
      }
      case Stmt::kBreak:
        return Flow::kBreak;
      case Stmt::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  absl::Status PrintValue(const Stmt& stmt, std::string* out) {
    ASSIGN_OR_RETURN(const Value value, Get(*stmt.expr));
    if (value.is_string()) return Append(stmt.line, value.text(), out);
    const absl::StatusOr<std::string> text = Str(runtime_, value);
    if (!text.ok()) return AtLine(stmt.line, text.status());
    return Append(stmt.line, *text, out);
  }

  absl::StatusOr<Flow> PrintIf(const Stmt& stmt, std::string* out) {
    for (const auto& [condition, body] : stmt.branches) {
      ASSIGN_OR_RETURN(const Value value, Get(*condition));
      if (Truth(value)) return Print(body, out);
    }
    return Print(stmt.otherwise, out);
  }

  absl::StatusOr<Flow> PrintFor(const Stmt& stmt, std::string* out) {
    ASSIGN_OR_RETURN(const Value iterable, Get(*stmt.expr));
    absl::StatusOr<std::vector<Value>> items = Iterate(runtime_, iterable);
    if (!items.ok()) return AtLine(stmt.line, items.status());
    const ScopePtr outer = scope_;
    Loop::Condition condition;
    if (stmt.condition != nullptr) {
      condition = [this, &stmt, outer](const Value& item) -> absl::StatusOr<bool> {
        const InScope in_scope(this, outer);
        RETURN_IF_ERROR(Assign(*stmt.target, item));
        ASSIGN_OR_RETURN(const Value wanted, Get(*stmt.condition));
        return Truth(wanted);
      };
    }
    RETURN_IF_ERROR(runtime_.Charge(sizeof(Loop)));
    Loop* loop = runtime_.New<Loop>(*std::move(items), std::move(condition));
    bool completed =
        false;  // one pass: what `else` asks for, since `continue` and `break` are none
    for (;;) {
      ASSIGN_OR_RETURN(const std::optional<Value> item, loop->Advance(runtime_));
      if (!item) break;
      const InScope in_scope(this, outer);
      scope_->Set("loop", Value::Of(loop));
      RETURN_IF_ERROR(Assign(*stmt.target, *item));
      RETURN_IF_ERROR(Enter(stmt.line));
      ASSIGN_OR_RETURN(const Flow flow, Print(stmt.body, out));
      if (flow == Flow::kBreak) break;
      completed |= flow == Flow::kNext;
    }
    if (completed) return Flow::kNext;
    const InScope in_scope(this, outer);
    return Print(stmt.otherwise, out);
  }

  absl::StatusOr<Flow> SetBlock(const Stmt& stmt) {
    Value value;
    {
      const InScope in_scope(this, scope_);
      std::string text;
      ASSIGN_OR_RETURN(const Flow flow, Print(stmt.body, &text));
      if (flow != Flow::kNext) return flow;
      value = Value::String(std::move(text));
      if (stmt.expr != nullptr) {
        ASSIGN_OR_RETURN(value, ApplyFilters(*stmt.expr, value));
      }
    }
    RETURN_IF_ERROR(Assign(*stmt.target, value));
    return Flow::kNext;
  }

  absl::StatusOr<Flow> FilterBlock(const Stmt& stmt, std::string* out) {
    const InScope in_scope(this, scope_);
    std::string text;
    ASSIGN_OR_RETURN(const Flow flow, Print(stmt.body, &text));
    if (flow != Flow::kNext) return flow;
    ASSIGN_OR_RETURN(const Value value, ApplyFilters(*stmt.expr, Value::String(std::move(text))));
    const absl::StatusOr<std::string> shown = Str(runtime_, value);
    if (!shown.ok()) return AtLine(stmt.line, shown.status());
    RETURN_IF_ERROR(Append(stmt.line, *shown, out));
    return Flow::kNext;
  }

  // The filters of a block, whose innermost has no expression of its own.
  absl::StatusOr<Value> ApplyFilters(const Expr& expr, const Value& value) {
    const Value before = std::exchange(block_value_, value);
    absl::StatusOr<Value> result = Get(expr);
    block_value_ = before;
    return result;
  }

  absl::Status CallBlock(const Stmt& stmt, std::string* out) {
    ASSIGN_OR_RETURN(const Value caller, MakeMacro(stmt));
    const Expr& call = *stmt.expr;
    ASSIGN_OR_RETURN(const Value callee, Get(*call.parts[0]));
    ASSIGN_OR_RETURN(Arguments arguments, GetArguments(call));
    arguments.named.emplace_back("caller", caller);
    const absl::StatusOr<Value> value = CallValue(runtime_, callee, arguments);
    if (!value.ok()) return WithLine(call.line, value.status());
    const absl::StatusOr<std::string> text = Str(runtime_, *value);
    if (!text.ok()) return AtLine(call.line, text.status());
    return Append(stmt.line, *text, out);
  }

  // --- macros

  absl::StatusOr<Value> MakeMacro(const Stmt& stmt) {
    const absl::StatusOr<Value> macro =
        runtime_.MakeFunction([this, &stmt, scope = scope_](Runtime&, const Arguments& arguments) {
          return CallMacro(stmt, scope, arguments);
        });
    if (!macro.ok()) return AtLine(stmt.line, macro.status());
    return macro;
  }

  absl::StatusOr<Value> CallMacro(const Stmt& stmt, const ScopePtr& defined_in,
                                  const Arguments& arguments) {
    const Depth depth(this);
    RETURN_IF_ERROR(Enter(stmt.line));
    const Parameters& parameters = stmt.parameters;
    const InScope in_scope(this, defined_in);
    std::vector<std::pair<std::string, Value>> named = arguments.named;
    const auto take = [&named](std::string_view name) -> std::optional<Value> {
      const auto it = std::find_if(named.begin(), named.end(),
                                   [&](const auto& argument) { return argument.first == name; });
      if (it == named.end()) return std::nullopt;
      std::optional<Value> value = std::move(it->second);
      named.erase(it);
      return value;
    };
    const size_t n_positional = std::min(arguments.positional.size(), parameters.names.size());
    std::vector<size_t> missing;
    bool has_caller = false;
    for (size_t i = 0; i < parameters.names.size(); ++i) {
      const std::string& name = parameters.names[i];
      has_caller |= name == "caller";
      if (i < n_positional) {
        scope_->Set(name, arguments.positional[i]);
      } else if (const std::optional<Value> value = take(name)) {
        scope_->Set(name, *value);
      } else {
        missing.push_back(i);
      }
    }
    if (parameters.takes_caller && !has_caller) {
      const std::optional<Value> caller = take("caller");
      scope_->Set("caller", caller ? *caller : Value::Undefined("no caller is defined"));
    }
    if (parameters.takes_kwargs) {
      std::vector<Dict::Entry> entries;
      for (auto& [name, value] : named) entries.emplace_back(Value::String(name), value);
      ASSIGN_OR_RETURN(const Value kwargs, runtime_.MakeDict(std::move(entries)));
      scope_->Set("kwargs", kwargs);
    } else if (!named.empty()) {
      return InvalidArgument("the macro takes no argument ", text::Quoted(named[0].first));
    }
    if (parameters.takes_varargs) {
      ASSIGN_OR_RETURN(
          const Value varargs,
          runtime_.MakeTuple({arguments.positional.begin() + static_cast<ptrdiff_t>(n_positional),
                              arguments.positional.end()}));
      scope_->Set("varargs", varargs);
    } else if (arguments.positional.size() > n_positional) {
      return InvalidArgument("the macro takes not more than ", n_positional, " arguments");
    }
    const size_t first_default = parameters.names.size() - parameters.defaults.size();
    for (size_t i : missing) {
      const std::string& name = parameters.names[i];
      Value value = Value::Undefined(StrCat("the parameter ", text::Quoted(name), " is not given"));
      if (i >= first_default) {
        ASSIGN_OR_RETURN(value, Get(*parameters.defaults[i - first_default]));
      }
      scope_->Set(name, std::move(value));
    }
    std::string out;
    RETURN_IF_ERROR(Print(stmt.body, &out).status());
    return Value::String(std::move(out));
  }

  // --- assignment

  absl::Status Assign(const Expr& target, const Value& value) {
    if (target.kind == Expr::kName) {
      scope_->Set(target.text, value);
      return absl::OkStatus();
    }
    if (target.kind == Expr::kNamespaceItem) return AssignToNamespace(target, value);
    const absl::StatusOr<std::vector<Value>> items = Iterate(runtime_, value);
    if (!items.ok()) return AtLine(target.line, items.status());
    if (items->size() != target.parts.size()) {
      return AtLine(target.line,
                    InvalidArgument(items->size(), " values for ", target.parts.size(), " names"));
    }
    for (size_t i = 0; i < items->size(); ++i) {
      RETURN_IF_ERROR(Assign(*target.parts[i], (*items)[i]));
    }
    return absl::OkStatus();
  }

  absl::Status AssignToNamespace(const Expr& target, const Value& value) {
    const Value* variable = scope_->Find(target.text);
    auto* space = variable == nullptr ? nullptr : variable->As<Namespace>();
    if (space == nullptr) {
      return AtLine(target.line,
                    InvalidArgument(text::Quoted(target.text),
                                    " is no namespace, so that its attributes cannot be set"));
    }
    if (target.attribute.starts_with('_')) {
      return AtLine(target.line,
                    InvalidArgument("an attribute of a namespace cannot begin with '_'"));
    }
    space->attributes.Set(Value::String(target.attribute), value);
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::string> Evaluate(Runtime& runtime, const Body& body,
                                     std::vector<std::pair<std::string, Value>> variables) {
  return Evaluator(runtime).Run(body, std::move(variables));
}

}  // namespace trireme::jinja
