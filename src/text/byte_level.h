// The byte-level alphabet of GPT-2: each of the 256 bytes is written as one printable character
// (Radford et al. 2019, encoder.py: bytes_to_unicode).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace trireme::text {

// Appends the character of each byte of `bytes`.
void AppendByteCharacters(std::string_view bytes, std::string* out);

// Appends the bytes that `token` spells; `token` itself where one of its characters is not in the
// alphabet.
void AppendSpelledBytes(std::string_view token, std::string* out);

}  // namespace trireme::text
