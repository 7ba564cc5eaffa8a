// A hash that is the same in every process and build: FNV-1a of 128 bits (Fowler, Noll, Vo).
// For telling weights apart, not against forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace trireme {

class StableHash {
 public:
  void Add(std::span<const std::byte> bytes) {
    for (std::byte byte : bytes) state_ = (state_ ^ static_cast<uint8_t>(byte)) * kPrime;
  }
  void Add(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) {
      state_ = (state_ ^ ((value >> shift) & 0xff)) * kPrime;
    }
  }
  // With its length, so that ("ab", "c") and ("a", "bc") differ.
  void Add(std::string_view text) {
    Add(static_cast<uint64_t>(text.size()));
    Add(std::as_bytes(std::span(text)));
  }

  uint64_t low() const { return static_cast<uint64_t>(state_); }

  // 32 hexadecimal digits.
  std::string Hex() const {
    std::string out;
    for (int shift = 124; shift >= 0; shift -= 4) {
      out += "0123456789abcdef"[static_cast<int>(state_ >> shift) & 15];
    }
    return out;
  }

 private:
  using Word = unsigned __int128;
  static constexpr Word kPrime = (Word{1} << 88) + 0x13b;
  static constexpr Word kOffset = (Word{0x6c62272e07bb0142u} << 64) + 0x62b821756295c58du;
  Word state_ = kOffset;
};

}  // namespace trireme
