// A template's text -> statements.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace trireme::jinja {

inline constexpr int kMaxNesting = 60;           // of statements and brackets in one another
inline constexpr int kMaxExpressionDepth = 150;  // of operators, e.g. a + b + … of 150 parts

// What jinja2 3.1 takes with the extensions loopcontrols and `generation`. INVALID_ARGUMENT: "line
// 3: …"; UNIMPLEMENTED for recursive loops, include, import, extends, block and autoescape;
// RESOURCE_EXHAUSTED beyond the bounds above.
absl::StatusOr<Body> Parse(std::string_view source);

}  // namespace trireme::jinja
