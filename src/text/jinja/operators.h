// Python's operators on values.
//
// Errors are INVALID_ARGUMENT where Python raises a TypeError or the like, without a line: the
// evaluator adds it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

bool Truth(const Value& value);

absl::StatusOr<bool> Equals(Runtime& runtime, const Value& a, const Value& b);
absl::StatusOr<bool> Less(Runtime& runtime, const Value& a, const Value& b);  // a < b
absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item);
// == != < <= > >= in notin
absl::StatusOr<bool> Compare(Runtime& runtime, std::string_view op, const Value& a, const Value& b);

// + - * / // % **
absl::StatusOr<Value> Arithmetic(Runtime& runtime, std::string_view op, const Value& a,
                                 const Value& b);
absl::StatusOr<Value> Negate(const Value& value);

// For dict.Find(key): keys that are no strings are looked for one by one.
absl::Status SpendOnLookup(Runtime& runtime, const Dict& dict, const Value& key);

// Fails if `value` is undefined, with what was said when it was looked up.
absl::Status CheckDefined(const Value& value);
// An integer parameter, e.g. of a filter.
absl::StatusOr<Int> ToInt(const Value& value, std::string_view what);
absl::StatusOr<std::string> ToText(const Value& value, std::string_view what);

// Sorts stably by `keys` (one for each item), as Python's sorted.
absl::StatusOr<std::vector<Value>> SortBy(Runtime& runtime, const std::vector<Value>& items,
                                          const std::vector<Value>& keys, bool reverse);

}  // namespace trireme::jinja
