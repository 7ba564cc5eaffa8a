// Over the vocabulary: the seeded draw, sums of exponentials, scans for large logits.
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

Scored Sample(const float* logits, int64_t v, const Draw& draw, int64_t first_id) {
  if (v == 0) return {-HUGE_VALF, -1};
  if (std::isinf(draw.inverse_temperature)) return SampleGreedy(logits, v, first_id);
  Best best = {Set16(-HUGE_VALF), Set16(static_cast<int32_t>(first_id))};
  F32x16 threshold = best.score;  // the best of all lanes
  const F32x16 scale = Set16(draw.inverse_temperature);
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
      Offer(best, MulAdd(l, scale, Gumbel(r)), Iota16(static_cast<int32_t>(first_id + j)));
      threshold = Set16(MaxLanes(best.score));
    }
  }
  return Winner(best);
}

// Column i in lane i mod 16, then across the lanes. NaN adds nothing.
float ExpSum(const float* logits, int64_t n, float max, float inverse_temperature) {
  F32x16 sum = Zero16();
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32x16 x =
        Mul(Sub(LoadLogits(logits + i, n - i), Set16(max)), Set16(inverse_temperature));
    const F32x16 e = Exp(x);
    sum = Add(sum, IfThenElse(IsNaN(e), Zero16(), e));
  }
  return SumLanes(sum);
}

int64_t SkipBelow(const float* logits, int64_t n, float threshold) {
  const F32x16 t = Set16(threshold);
  int64_t i = 0;
  while (i + kLanes <= n && !AnyTrue(Gt(Load16(logits + i), t))) i += kLanes;
  return i;
}

}  // namespace

VocabKernels MakeVocabKernels() {
  return {.sample = Sample, .exp_sum = ExpSum, .skip_below = SkipBelow};
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
