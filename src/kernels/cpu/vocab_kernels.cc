// Over the vocabulary: the seeded draw, masses, scans for large logits.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/vocab_kernels.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/kernels.h"

#if TRIREME_SIMD
#include <algorithm>
#include <cmath>

#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/philox.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::cpu::HWY_NAMESPACE {
namespace {

// The best of 16 lanes so far; a lane sees ascending ids, so `>` keeps the smallest of equals.
struct Best {
  F32x16 score;
  I32x16 id;
};
HWY_INLINE void Offer(Best& best, F32x16 score, I32x16 id) {
  const Mask16 better = Gt(score, best.score);  // false for NaN
  best.score = IfThenElse(better, score, best.score);
  best.id = IfThenElse(better, id, best.id);
}
Scored Winner(const Best& best) {
  float scores[kLanes];
  int32_t ids[kLanes];
  Store16(best.score, scores);
  Store16(best.id, ids);
  Scored winner = {scores[0], ids[0]};
  for (int64_t i = 1; i < kLanes; ++i) {
    if (scores[i] > winner.score || (scores[i] == winner.score && ids[i] < winner.id)) {
      winner = {scores[i], ids[i]};
    }
  }
  return winner;
}

HWY_INLINE F32x16 LoadLogits(const float* logits, int64_t n) {
  if (n >= kLanes) return Load16(logits);
  return IfThenElse(FirstN16(n), LoadFirst(logits, n), Set16(-HUGE_VALF));
}

// At least the noise that r makes: -log(-log1p(-u)) <= -log u, and log2 of a float is at least its
// bits read as a number with 23 binary places, less 127. The margin covers the roundings.
HWY_INLINE F32x16 NoiseBound(U32x16 r) {
  const I32x16 bits = AsSigned(AsUnsigned(ToFloat(AsSigned(ShiftRight16<8>(r)))));  // of u * 2^24
  constexpr float kLn2 = 0x1.62e43p-1f;
  return NegMulAdd(ToFloat(bits), Set16(kLn2 * 0x1p-23f), Set16((127 + 24) * kLn2 + 0x1p-9f));
}

Scored SampleGreedy(const float* logits, int64_t v, int64_t first_id) {
  Best best = {Set16(-HUGE_VALF), Set16(static_cast<int32_t>(first_id))};
  for (int64_t i = 0; i < v; i += kLanes) {
    Offer(best, LoadLogits(logits + i, v - i), Iota16(static_cast<int32_t>(first_id + i)));
  }
  return Winner(best);
}

Scored Sample(const float* logits, int64_t v, const Draw& draw, Scored last, int64_t first_id) {
  if (v == 0) return {-HUGE_VALF, -1};
  if (std::isinf(draw.inverse_temperature)) return SampleGreedy(logits, v, first_id);
  Best best = {Set16(-HUGE_VALF), Set16(static_cast<int32_t>(first_id))};
  F32x16 threshold = best.score;  // the best of all lanes
  const F32x16 scale = Set16(draw.inverse_temperature);
  const bool cut = last.id >= 0;
  const F32x16 last_logit = Set16(cut ? last.score : -HUGE_VALF);
  alignas(64) uint32_t words[5 * kLanes] = {};  // 64 draws from a counter on, and room to read on
  for (int64_t i = -(first_id % 4); i < v; i += 4 * kLanes) {
    Philox16(draw.seed, static_cast<uint32_t>((first_id + i) / 4), draw.token_index, draw.choice,
             kDrawPurpose, words);
    const int64_t end = std::min(v, i + 4 * kLanes);
    for (int64_t j = std::max<int64_t>(i, 0); j < end; j += kLanes) {
      const U32x16 r = LoadUnsigned(words + (j - i));
      const F32x16 l = LoadLogits(logits + j, end - j);
      // Few can win: the logarithms are spent on vectors that hold one that might.
      if (!AnyTrue(Gt(MulAdd(l, scale, NoiseBound(r)), threshold))) continue;
      const int64_t n_ties = cut ? std::clamp<int64_t>(last.id + 1 - first_id - j, 0, kLanes) : 0;
      const F32x16 score = MulAdd(l, scale, Gumbel(r)), never = Set16(-HUGE_VALF);
      const F32x16 tie = IfThenElse(FirstN16(n_ties), score, never);
      const F32x16 kept = IfThenElse(Eq(l, last_logit), tie, never);
      Offer(best, IfThenElse(Gt(l, last_logit), score, kept),
            Iota16(static_cast<int32_t>(first_id + j)));
      threshold = Set16(MaxLanes(best.score));
    }
  }
  return Winner(best);
}

void Masses(const float* logits, int64_t n, float max, float inverse_temperature,
            uint64_t* masses) {
  constexpr float kOne = 0x1p40f;
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32x16 l = LoadLogits(logits + i, n - i);
    const F32x16 e = Exp(Mul(Sub(l, Set16(max)), Set16(inverse_temperature)));
    alignas(64) float values[kLanes];
    Store16(Mul(IfThenElse(Eq(l, Set16(max)), Set16(1.0f), IfThenElse(IsNaN(e), Zero16(), e)),
                Set16(kOne)),
            values);
    const int64_t here = std::min(n - i, kLanes);
    for (int64_t j = 0; j < here; ++j) masses[i + j] = static_cast<uint64_t>(values[j]);
  }
}

int64_t SkipBelow(const float* logits, int64_t n, float threshold) {
  const F32x16 t = Set16(threshold);
  int64_t i = 0;
  while (i + kLanes <= n && !AnyTrue(Gt(Load16(logits + i), t))) i += kLanes;
  return i;
}

}  // namespace

VocabKernels MakeVocabKernels() {
  return {.sample = Sample, .masses = Masses, .skip_below = SkipBelow};
}

}  // namespace trireme::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TRIREME_SIMD

#if HWY_ONCE
namespace trireme::cpu {

VocabKernels VocabKernelsFor(bool avx512) {
  return avx512 ? N_AVX3::MakeVocabKernels() : N_AVX2::MakeVocabKernels();
}

}  // namespace trireme::cpu
#endif
