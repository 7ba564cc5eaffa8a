// What a flag's value must be. CLI11's own validators print limits of 300 digits and lists of
// units.
#pragma once

#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace trireme {

CLI::Validator AtLeast(int64_t least);  // a whole number

CLI::Validator OneOf(std::vector<std::string> values);

// Bytes, with K, M, G or T for powers of 1024; the value becomes the plain number.
CLI::Validator Size();

}  // namespace trireme
