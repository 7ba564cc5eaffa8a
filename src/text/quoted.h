// Strings of a file in an error message.
#pragma once

#include <string>
#include <string_view>

namespace trireme::text {

// `text` in double quotes, on one line: control characters as \u{…}, cut after 100 characters.
std::string Quoted(std::string_view text);  // valid UTF-8

}  // namespace trireme::text
