// The variables of a template, and the `loop` of its loops.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/runtime.h"

namespace trireme::jinja {

// A scope reads through to the one around it; what it sets is its own. Macros keep theirs alive.
class Scope {
 public:
  explicit Scope(std::shared_ptr<const Scope> outer) : outer_(std::move(outer)) {}

  const Value* Find(std::string_view name) const;
  void Set(std::string_view name, Value value);

 private:
  const std::shared_ptr<const Scope> outer_;
  std::vector<std::pair<std::string, Value>> variables_;
};

// The items of a `for`, one after the other, and what the body sees as `loop` (jinja2's
// LoopContext). Items that the loop's own `if` drops are found out as late as possible, because it
// may ask for what the body has changed.
class Loop : public Object {
 public:
  using Condition = std::function<absl::StatusOr<bool>(const Value&)>;

  Loop(std::vector<Value> items, Condition condition)
      : items_(std::move(items)), condition_(std::move(condition)) {}

  std::string TypeName() const override { return "LoopContext"; }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override;

  // Moves on; nullopt at the end.
  absl::StatusOr<std::optional<Value>> Advance(Runtime& runtime);

 private:
  absl::StatusOr<std::optional<Value>> Pull(Runtime& runtime);
  absl::StatusOr<std::optional<Value>> Peek(Runtime& runtime);
  absl::StatusOr<Int> Length(Runtime& runtime);
  absl::StatusOr<Value> Cycle(Runtime& runtime, const Arguments& arguments) const;
  absl::StatusOr<Value> Changed(Runtime& runtime, const Arguments& arguments);

  std::vector<Value> items_;
  size_t next_ = 0;  // of items_
  Condition condition_;
  Int index0_ = -1;
  std::optional<Int> length_;
  std::optional<Value> after_, current_, before_;
  std::optional<std::vector<Value>> changed_;
};

}  // namespace trireme::jinja
