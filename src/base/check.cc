#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace trireme {

CheckFailure::CheckFailure(const char* file, int line, const char* condition) {
  message_ << "trireme: bug at " << file << ":" << line << ": expected " << condition << ": ";
}

CheckFailure::~CheckFailure() {
  message_ << "\n";
  const std::string line = message_.str();
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
  std::abort();
}

}  // namespace trireme
