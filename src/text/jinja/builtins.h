// The filters, tests and global functions of jinja2, as Hugging Face sets it up: each a list that
// can be read at the end of its file.
#pragma once

#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

using Filter = absl::StatusOr<Value> (*)(Runtime&, const Value& value, const Arguments&);
using Test = absl::StatusOr<bool> (*)(Runtime&, const Value& value, const Arguments&);

Filter FindFilter(std::string_view name);  // nullptr if there is none
Test FindTest(std::string_view name);

// range, namespace, dict, raise_exception, strftime_now, cycler, joiner; Undefined for other names.
absl::StatusOr<Value> FindGlobal(Runtime& runtime, std::string_view name);

}  // namespace trireme::jinja
