// The methods of str, dict, list and tuple.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

// value.name as a Function; nullopt where Python's type has no such attribute. What would change a
// value (list.append) is Undefined, as in jinja2's immutable sandbox; UNIMPLEMENTED for a method of
// Python's that is not here.
absl::StatusOr<std::optional<Value>> FindMethod(Runtime& runtime, const Value& value,
                                                std::string_view name);

}  // namespace trireme::jinja
