// Which build this process runs.
#pragma once

#include <string>

namespace trireme {

// The linker's build id of this program, in hex: equal for equal binaries.
std::string BuildId();

}  // namespace trireme
