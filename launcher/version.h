#pragma once

#include <string>

namespace trireme {

std::string Version();      // "0.1.0"
std::string VersionLine();  // "trireme 0.1.0"

}  // namespace trireme
