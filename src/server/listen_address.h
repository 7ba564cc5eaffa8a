// Addresses as flags give them.
#pragma once

#include <string>

#include "base/status.h"

namespace trireme {

// INVALID_ARGUMENT if `address` is no HOST:PORT (an IPv6 host in brackets) with a port of at least
// `least_port`. (gRPC itself takes a port modulo 65536.)
absl::Status CheckAddress(const std::string& address, int least_port);

// Whether only this host can dial it: 127.0.0.0/8, ::1 or localhost. After CheckAddress.
bool IsLoopback(const std::string& address);

}  // namespace trireme
