// The log: lines on stderr, for people (`time level [who] message`) or, each a JSON object, for
// programs. stdout belongs to what the user asked for.
#pragma once

#include <string>

#include "spdlog/spdlog.h"

namespace trireme {

// Which process a line is of.
struct LogRole {
  std::string role;  // "controller", "worker", …
  int replica = -1;  // -1: none
  int rank = -1;
};

struct LogOptions {
  std::string level = "info";   // trace, debug, info, warn, error or off
  std::string format = "text";  // text or json: ts, level, role, replica, rank, message
};

void InitLog(const LogRole& who, const LogOptions& options);

bool LogIsJson();

}  // namespace trireme
