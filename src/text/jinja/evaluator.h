// Runs the statements of a template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

namespace trireme::jinja {

// The text that `body` prints. `variables` are what the template finds by name before the global
// functions. Errors begin with "line 7: " where the line is known.
absl::StatusOr<std::string> Evaluate(Runtime& runtime, const Body& body,
                                     std::vector<std::pair<std::string, Value>> variables);

}  // namespace trireme::jinja
