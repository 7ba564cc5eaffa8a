#include "kernels/cpu/cutoff.h"

#include <algorithm>
#include <cmath>

#include "kernels/filter.h"

namespace trireme::cpu {
namespace {

constexpr size_t kFirstCandidates = 64;
constexpr size_t kMoreCandidates = 8;  // times as many, where they do not reach far enough
constexpr size_t kTile = 1024;         // logits whose masses are added at a time

}  // namespace

uint64_t TotalMass(const VocabKernels& kernels, std::span<const float> logits, float max,
                   float inverse_temperature) {
  uint64_t masses[kTile], total = 0;
  for (size_t i = 0; i < logits.size(); i += kTile) {
    const size_t n = std::min(kTile, logits.size() - i);
    kernels.masses(&logits[i], static_cast<int64_t>(n), max, inverse_temperature, masses);
    for (size_t j = 0; j < n; ++j) total += masses[j];
  }
  return total;
}

Scored CutoffFinder::Find(std::span<const float> logits, const Filter& filter) {
  for (size_t n = kFirstCandidates;; n *= kMoreCandidates) {
    top_.resize(std::min(n, logits.size()));
    top_logits_.Find(top_, logits, 0);
    Scored last;
    if (Cut(logits, filter, &last)) return last;
  }
}

bool CutoffFinder::Cut(std::span<const float> logits, const Filter& filter, Scored* last) {
  *last = {};
  if (top_.empty()) return true;
  const bool all_seen = top_.size() == logits.size();
  const float max = top_[0].score, inverse = filter.inverse_temperature;
  if (max == -HUGE_VALF) return true;

  size_t keep = logits.size();
  if (filter.min_p > 0) {
    const float least = std::log(filter.min_p);
    const auto out = std::find_if(top_.begin(), top_.end(), [&](const Scored& s) {
      return s.score != max && !((s.score - max) * inverse >= least);
    });
    if (out == top_.end() && !all_seen) return false;
    keep = static_cast<size_t>(out - top_.begin());
  }
  if (filter.top_k > 0) keep = std::min(keep, static_cast<size_t>(filter.top_k));
  const bool restricted = keep < logits.size();
  if (!restricted && filter.top_p >= 1) return true;
  if (restricted && keep > top_.size()) return false;
  if (filter.top_p < 1) {
    const size_t n = std::min(keep, top_.size());
    scores_.resize(n);
    masses_.resize(n);
    std::transform(top_.begin(), top_.begin() + static_cast<ptrdiff_t>(n), scores_.begin(),
                   [](const Scored& s) { return s.score; });
    kernels_.masses(scores_.data(), static_cast<int64_t>(n), max, inverse, masses_.data());
    uint64_t seen = 0;
    for (uint64_t mass : masses_) seen += mass;
    const uint64_t wanted =
        KeptMass(filter.top_p, restricted ? seen : TotalMass(kernels_, logits, max, inverse));
    if (seen < wanted) return false;
    uint64_t sum = 0;
    keep = 0;
    while (sum < wanted) sum += masses_[keep++];
  }
  *last = top_[keep - 1];
  return true;
}

}  // namespace trireme::cpu
