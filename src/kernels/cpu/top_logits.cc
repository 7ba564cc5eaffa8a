#include "kernels/cpu/top_logits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace trireme::cpu {
namespace {

constexpr size_t kHeapMax = 256;  // beyond, sorting all is quicker
constexpr int kDigitBits = 11;    // three digits of 32 bits
constexpr size_t kDigits = size_t{1} << kDigitBits;

// NaN counts as -inf, and -0 as 0.
float Value(float logit) { return std::isnan(logit) ? -HUGE_VALF : logit + 0.0f; }

// The larger first, of equals the smaller id.
bool Before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// Ascending in this is descending in the value.
uint32_t Key(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return (bits >> 31) != 0 ? bits : bits ^ 0x7fffffffu;
}

}  // namespace

void TopLogitsFinder::Find(std::span<Scored> top, std::span<const float> logits, int64_t first_id) {
  const size_t m = std::min(top.size(), logits.size());
  std::fill(top.begin() + static_cast<ptrdiff_t>(m), top.end(), Scored{-HUGE_VALF, -1});
  if (m == 0) return;
  m <= kHeapMax ? ByHeap(top.first(m), logits, first_id) : BySort(top.first(m), logits, first_id);
}

// The best so far, the worst of them on top.
void TopLogitsFinder::ByHeap(std::span<Scored> top, std::span<const float> logits,
                             int64_t first_id) {
  const auto at = [&](size_t i) {
    return Scored{Value(logits[i]), static_cast<int32_t>(first_id + static_cast<int64_t>(i))};
  };
  for (size_t i = 0; i < top.size(); ++i) top[i] = at(i);
  std::make_heap(top.begin(), top.end(), Before);
  for (size_t i = top.size(); i < logits.size(); ++i) {
    const auto rest = static_cast<int64_t>(logits.size() - i);
    i += static_cast<size_t>(kernels_.skip_below(&logits[i], rest, top[0].score));
    if (i == logits.size()) break;
    if (const Scored candidate = at(i); Before(candidate, top[0])) {
      std::pop_heap(top.begin(), top.end(), Before);
      top.back() = candidate;
      std::push_heap(top.begin(), top.end(), Before);
    }
  }
  std::sort_heap(top.begin(), top.end(), Before);
}

// Stable, from the least digit to the greatest: ids of equal logits keep their order.
void TopLogitsFinder::BySort(std::span<Scored> top, std::span<const float> logits,
                             int64_t first_id) {
  struct Entry {
    uint32_t key;
    uint32_t index;
  };
  const size_t n = logits.size();
  Entry* from = scratch_.Get<Entry>(static_cast<int64_t>(2 * n));
  Entry* to = from + n;
  std::array<std::array<uint32_t, kDigits>, 3> starts = {};
  const auto digit = [](uint32_t key, int pass) {
    return key >> (pass * kDigitBits) & (kDigits - 1);
  };
  for (size_t i = 0; i < n; ++i) {
    from[i] = {Key(Value(logits[i])), static_cast<uint32_t>(i)};
    for (int pass = 0; pass < 3; ++pass)
      ++starts[static_cast<size_t>(pass)][digit(from[i].key, pass)];
  }
  for (int pass = 0; pass < 3; ++pass) {
    auto& start = starts[static_cast<size_t>(pass)];
    uint32_t sum = 0;
    for (uint32_t& count : start) sum += std::exchange(count, sum);
    for (size_t i = 0; i < n; ++i) to[start[digit(from[i].key, pass)]++] = from[i];
    std::swap(from, to);
  }
  for (size_t i = 0; i < top.size(); ++i) {
    top[i] = {Value(logits[from[i].index]), static_cast<int32_t>(first_id + from[i].index)};
  }
}

}  // namespace trireme::cpu
