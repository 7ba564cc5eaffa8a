// Lines of the log with what programs look for in them.
#pragma once

#include <string>

#include "nlohmann/json_fwd.hpp"
#include "spdlog/common.h"

namespace trireme {

// A line for people, `message`; where lines are JSON, its object has these fields, too.
void LogWithFields(spdlog::level::level_enum level, const std::string& message,
                   const nlohmann::ordered_json& fields);

}  // namespace trireme
