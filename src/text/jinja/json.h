// JSON <-> values.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

// The order of keys is kept. RESOURCE_EXHAUSTED where it is nested deeper than kMaxValueDepth.
absl::StatusOr<Value> FromJson(Runtime& runtime, const nlohmann::ordered_json& json);

// json.dumps(value, ensure_ascii=…, indent=…, separators=…, sort_keys=…) of Python;
// INVALID_ARGUMENT for what JSON does not have, an undefined value first of all.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // of one level; none: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
absl::StatusOr<std::string> ToJson(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace trireme::jinja
