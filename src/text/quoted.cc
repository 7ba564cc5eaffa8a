#include "text/quoted.h"

#include <cstdio>

#include "text/utf8.h"

namespace trireme::text {

std::string Quoted(std::string_view text) {
  constexpr int kMaxCharacters = 100;
  std::string out = "\"";
  int n = 0;
  for (size_t pos = 0; pos < text.size(); ++n) {
    if (n == kMaxCharacters) {
      out += "…";
      break;
    }
    const char32_t c = DecodeAt(text, &pos);
    if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029) {
      char code[16];
      std::snprintf(code, sizeof(code), "\\u{%x}", static_cast<unsigned>(c));
      out += code;
    } else {
      AppendUtf8(c, &out);
    }
  }
  return out + '"';
}

}  // namespace trireme::text
