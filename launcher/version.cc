#include "launcher/version.h"

namespace trireme {

std::string Version() { return TRIREME_VERSION; }
std::string VersionLine() { return "trireme " + Version(); }

}  // namespace trireme
