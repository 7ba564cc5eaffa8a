// Values as text, as Python prints them.
#pragma once

#include <string>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

// str() and repr(). INVALID_ARGUMENT for what Python prints with an address: functions, iterators.
absl::StatusOr<std::string> Str(Runtime& runtime, const Value& value);
absl::StatusOr<std::string> Repr(Runtime& runtime, const Value& value);

}  // namespace trireme::jinja
