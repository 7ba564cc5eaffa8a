// What Filter's masses are, and logprobs of them, for every device.
#pragma once

#include <cstdint>
#include <limits>

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

// log p of a logit in a row of which `max` is the largest. log_total: log(sum of masses / 2^40)
constexpr float LogprobOf(float logit, float max, double log_total) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (!(logit > -kInfinity)) return -kInfinity;  // NaN, too
  const double below = logit == max ? 0.0 : static_cast<double>(logit) - static_cast<double>(max);
  return static_cast<float>(below - log_total);
}

}  // namespace trireme
