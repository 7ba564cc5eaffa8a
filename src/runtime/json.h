// JSON files of a model: parsed strictly, and described in one line when they are wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "nlohmann/json.hpp"

namespace trireme {

// One object. INVALID_ARGUMENT where the text is not JSON (with the byte), is not an object, names
// a key twice in one object, or is longer than 64 MB.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text);

// A name from a file, in quotes: control characters escaped, long ones cut, so that it fits a line.
std::string Quoted(std::string_view text);

// What was found where something else was expected: `"x"`, `3.5`, `null`, `a list`, `an object`.
std::string Describe(const nlohmann::json& value);

std::string ShapeText(const std::vector<int64_t>& shape);  // [2048,5632]

}  // namespace trireme
