#include "text/jinja/scope.h"

#include <algorithm>

#include "text/jinja/operators.h"

namespace trireme::jinja {

const Value* Scope::Find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outer_.get()) {
    for (const auto& [key, value] : scope->variables_) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Scope::Set(std::string_view name, Value value) {
  for (auto& variable : variables_) {
    if (variable.first == name) {
      variable.second = std::move(value);
      return;
    }
  }
  variables_.emplace_back(name, std::move(value));
}

absl::StatusOr<std::optional<Value>> Loop::Pull(Runtime& runtime) {
  while (next_ < items_.size()) {
    const Value& item = items_[next_++];
    if (condition_ == nullptr) return std::optional(item);
    RETURN_IF_ERROR(runtime.Spend());
    ASSIGN_OR_RETURN(const bool wanted, condition_(item));
    if (wanted) return std::optional(item);
  }
  return std::optional<Value>();
}

absl::StatusOr<std::optional<Value>> Loop::Peek(Runtime& runtime) {
  if (!after_) {
    ASSIGN_OR_RETURN(after_, Pull(runtime));
  }
  return after_;
}

absl::StatusOr<std::optional<Value>> Loop::Advance(Runtime& runtime) {
  ASSIGN_OR_RETURN(std::optional<Value> next, Peek(runtime));
  after_.reset();
  if (!next) return next;
  ++index0_;
  before_ = std::move(current_);
  current_ = next;
  return next;
}

absl::StatusOr<Int> Loop::Length(Runtime& runtime) {
  if (!length_ && condition_ == nullptr) length_ = static_cast<Int>(items_.size());
  if (!length_) {
    std::vector<Value> rest;
    for (;;) {
      ASSIGN_OR_RETURN(std::optional<Value> item, Pull(runtime));
      if (!item) break;
      rest.push_back(*std::move(item));
    }
    length_ = static_cast<Int>(rest.size()) + index0_ + 1 + (after_ ? 1 : 0);
    items_ = std::move(rest);
    next_ = 0;
    condition_ = nullptr;
  }
  return *length_;
}

absl::StatusOr<Value> Loop::Cycle(Runtime&, const Arguments& arguments) const {
  if (arguments.positional.empty() || !arguments.named.empty()) {
    return InvalidArgument("loop.cycle takes the values to go through");
  }
  return arguments.positional[static_cast<size_t>(index0_) % arguments.positional.size()];
}

absl::StatusOr<Value> Loop::Changed(Runtime& runtime, const Arguments& arguments) {
  bool same = changed_ && changed_->size() == arguments.positional.size();
  for (size_t i = 0; same && i < arguments.positional.size(); ++i) {
    ASSIGN_OR_RETURN(same, Equals(runtime, (*changed_)[i], arguments.positional[i]));
  }
  changed_ = arguments.positional;
  return Value::Bool(!same);
}

absl::StatusOr<std::optional<Value>> Loop::Attribute(Runtime& runtime, std::string_view name) {
  if (name == "index") return std::optional(Value::Number(index0_ + 1));
  if (name == "index0") return std::optional(Value::Number(index0_));
  if (name == "first") return std::optional(Value::Bool(index0_ == 0));
  if (name == "depth") return std::optional(Value::Number(1));
  if (name == "depth0") return std::optional(Value::Number(0));
  if (name == "length" || name == "revindex" || name == "revindex0") {
    ASSIGN_OR_RETURN(const Int length, Length(runtime));
    if (name == "length") return std::optional(Value::Number(length));
    return std::optional(Value::Number(length - index0_ - (name == "revindex0" ? 1 : 0)));
  }
  if (name == "previtem") {
    return before_ ? before_ : std::optional(Value::Undefined("there is no previous item"));
  }
  if (name == "last" || name == "nextitem") {
    ASSIGN_OR_RETURN(const std::optional<Value> next, Peek(runtime));
    if (name == "last") return std::optional(Value::Bool(!next));
    return next ? next : std::optional(Value::Undefined("there is no next item"));
  }
  if (name == "cycle" || name == "changed") {
    const bool cycle = name == "cycle";
    ASSIGN_OR_RETURN(const Value function,
                     runtime.MakeFunction([this, cycle](Runtime& r, const Arguments& arguments) {
                       return cycle ? Cycle(r, arguments) : Changed(r, arguments);
                     }));
    return std::optional(function);
  }
  return std::optional<Value>();
}

}  // namespace trireme::jinja
