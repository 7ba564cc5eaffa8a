#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace trireme::text {
namespace {

struct Alphabet {
  std::array<std::string, 256> character;  // byte -> UTF-8 of its character
  std::array<int16_t, 512> byte;           // code point -> byte, -1 if not in the alphabet

  Alphabet() {
    byte.fill(-1);
    char32_t next = 256;  // bytes that are not printable in Latin-1 go to U+0100 and up, in order
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = printable ? static_cast<char32_t>(b) : next++;
      AppendUtf8(c, &character[b]);
      byte[c] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& GetAlphabet() {
  static const Alphabet* alphabet = new Alphabet;
  return *alphabet;
}

}  // namespace

void AppendByteCharacters(std::string_view bytes, std::string* out) {
  const Alphabet& alphabet = GetAlphabet();
  for (char b : bytes) out->append(alphabet.character[static_cast<uint8_t>(b)]);
}

void AppendSpelledBytes(std::string_view token, std::string* out) {
  const Alphabet& alphabet = GetAlphabet();
  const size_t before = out->size();
  for (size_t pos = 0; pos < token.size();) {
    const char32_t c = DecodeAt(token, &pos);
    if (c >= alphabet.byte.size() || alphabet.byte[c] < 0) {
      out->resize(before);
      out->append(token);
      return;
    }
    out->push_back(static_cast<char>(alphabet.byte[c]));
  }
}

}  // namespace trireme::text
