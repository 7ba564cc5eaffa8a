// What is in a value: items, attributes, parts.
//
// Errors are as those of operators.h.
#pragma once

#include <string_view>
#include <vector>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

// The items of anything that can be iterated; an iterator gives up what it has left.
absl::StatusOr<std::vector<Value>> Iterate(Runtime& runtime, const Value& value);
absl::StatusOr<Value> LengthOf(const Value& value);

// value[key] and value.name, as jinja2's sandbox has them: Undefined where there is nothing, and an
// error if `value` itself is undefined.
absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& value, const Value& key);
absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& value, std::string_view name);
// value[start:stop:step]; None for a bound that is not given.
absl::StatusOr<Value> Slice(Runtime& runtime, const Value& value, const Value& start,
                            const Value& stop, const Value& step);

absl::StatusOr<Value> CallValue(Runtime& runtime, const Value& callee, const Arguments& arguments);

}  // namespace trireme::jinja
