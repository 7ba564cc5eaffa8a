// UTF-8: validate, decode, encode, and repair as Rust's String::from_utf8_lossy does.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace trireme::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// What stands at the front of some bytes (Unicode 16, table 3-7).
struct Utf8Sequence {
  enum Kind { kCharacter, kInvalid, kTruncated } kind;
  size_t size;  // bytes of the character, or of the maximal subpart of an ill-formed one; >= 1
};
Utf8Sequence FirstSequence(std::string_view bytes);  // `bytes` is not empty

// The offset of the first byte that is not UTF-8, or npos.
size_t FindInvalidUtf8(std::string_view bytes);

// The code point at text[*pos] of valid UTF-8; *pos moves behind it.
char32_t DecodeAt(std::string_view text, size_t* pos);

// The code point that ends before text[*pos]; *pos moves to its first byte. *pos > 0.
char32_t DecodeBefore(std::string_view text, size_t* pos);

void AppendUtf8(char32_t c, std::string* out);

// Bytes in, text out: a character is held back until its last byte is there, and each ill-formed
// maximal subpart becomes one U+FFFD.
class LossyUtf8 {
 public:
  void Push(std::string_view bytes, std::string* out);
  void Finish(std::string* out);  // a character cut short becomes U+FFFD

 private:
  std::string pending_;  // the first bytes of one character, at most 3
};

}  // namespace trireme::text
