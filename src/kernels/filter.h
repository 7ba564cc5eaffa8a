// What Filter's masses are, for every device.
#pragma once

#include <cstdint>

namespace trireme {

// The mass of the best id.
inline constexpr uint64_t kWholeMass = uint64_t{1} << 40;

// The least mass that top_p keeps of `total` > 0: at least 1, at most all of it.
constexpr uint64_t KeptMass(float top_p, uint64_t total) {
  const double share = static_cast<double>(top_p) * static_cast<double>(total);
  uint64_t mass = static_cast<uint64_t>(share);
  if (static_cast<double>(mass) < share) ++mass;
  return mass < 1 ? 1 : mass > total ? total : mass;
}

}  // namespace trireme
