#include "text/utf8.h"

#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace trireme::text {

Utf8Sequence FirstSequence(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Sequence::kCharacter, 1};
  size_t size;
  uint8_t low = 0x80, high = 0xBF;  // bounds of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    size = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    size = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;  // no surrogates
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    size = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;  // nothing above U+10FFFF
  } else {
    return {Utf8Sequence::kInvalid, 1};
  }
  for (size_t i = 1; i < size; ++i) {
    if (i == bytes.size()) return {Utf8Sequence::kTruncated, i};
    if (byte(i) < low || byte(i) > high) return {Utf8Sequence::kInvalid, i};
    low = 0x80, high = 0xBF;
  }
  return {Utf8Sequence::kCharacter, size};
}

size_t FindInvalidUtf8(std::string_view bytes) {
  size_t pos = 0;
  while (pos < bytes.size()) {
    uint64_t eight;
    if (pos + sizeof(eight) <= bytes.size()) {
      std::memcpy(&eight, bytes.data() + pos, sizeof(eight));
      if ((eight & 0x8080808080808080u) == 0) {
        pos += sizeof(eight);
        continue;
      }
    }
    const Utf8Sequence first = FirstSequence(bytes.substr(pos));
    if (first.kind != Utf8Sequence::kCharacter) return pos;
    pos += first.size;
  }
  return std::string_view::npos;
}

char32_t DecodeAt(std::string_view text, size_t* pos) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[*pos + i]); };
  const char32_t lead = byte(0);
  char32_t c;
  size_t size;
  if (lead < 0x80) {
    c = lead, size = 1;
  } else if (lead < 0xE0) {
    c = (lead & 0x1F) << 6 | (byte(1) & 0x3F), size = 2;
  } else if (lead < 0xF0) {
    c = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), size = 3;
  } else {
    c = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    size = 4;
  }
  *pos += size;
  return c;
}

char32_t DecodeBefore(std::string_view text, size_t* pos) {
  CHECK(*pos > 0);
  do {
    --*pos;
  } while (*pos > 0 && (static_cast<uint8_t>(text[*pos]) & 0xC0) == 0x80);
  size_t begin = *pos;
  return DecodeAt(text, &begin);
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | c >> 6));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | c >> 12));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | c >> 18));
    out->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

void LossyUtf8::Push(std::string_view bytes, std::string* out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_;
    joined += bytes;
    bytes = joined;
    pending_.clear();
  }
  while (!bytes.empty()) {
    const Utf8Sequence first = FirstSequence(bytes);
    if (first.kind == Utf8Sequence::kTruncated) {
      pending_ = bytes;
      return;
    }
    out->append(first.kind == Utf8Sequence::kCharacter ? bytes.substr(0, first.size)
                                                       : kReplacementCharacter);
    bytes.remove_prefix(first.size);
  }
}

void LossyUtf8::Finish(std::string* out) {
  if (!pending_.empty()) out->append(kReplacementCharacter);
  pending_.clear();
}

}  // namespace trireme::text
