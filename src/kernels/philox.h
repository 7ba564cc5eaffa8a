// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random
// numbers as a function of (key, counter), so that a draw depends on what it is for, not on when
// or where it is made.
#pragma once

#include <array>
#include <cstdint>

namespace trireme {

// What a random number is for: the last word of the counter.
inline constexpr uint32_t kDrawPurpose = 1;
inline constexpr uint32_t kDropoutPurpose = 2;

constexpr std::array<uint32_t, 4> Philox(uint64_t seed, std::array<uint32_t, 4> counter) {
  uint32_t k0 = static_cast<uint32_t>(seed);
  uint32_t k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ k0, static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return counter;
}

}  // namespace trireme
