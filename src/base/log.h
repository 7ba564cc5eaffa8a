// The log: lines on stderr, `time level [who] message`. stdout belongs to what the user asked for.
#pragma once

#include "spdlog/spdlog.h"

namespace trireme {

// `who` names this process in each line, for example "controller" or "replica 0 rank 3".
// `level`: trace, debug, info, warn, error or off.
void InitLog(const std::string& who, const std::string& level);

}  // namespace trireme
