// Rotary positions, KV pages and attention.
//
// Keys lie [D][16 tokens] in a block: a lane is a token, scores are fma chains over d ascending.
// Values lie [16 tokens][D]: a lane is a d, sums are fma chains over the tokens ascending. Both
// depend on the row and the head alone, so a row among others has the same bits as a row alone.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/kernels.h"

#if TRIREME_SIMD
#include <algorithm>
#include <cmath>

#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kB = kKvBlockSize;
static_assert(kB == kLanes);
constexpr int kRows = HWY_TARGET == HWY_AVX3 ? 8 : 4;  // accumulators that hide the latency and fit

// a' = a cos - b sin, b' = b cos + a sin; the second product of each is fused.
HWY_INLINE void Rotate(float a, float b, float cos, float sin, float* ra, float* rb) {
  *ra = std::fma(a, cos, -(b * sin));
  *rb = std::fma(b, cos, a * sin);
}

template <class T, class P>
void RopeStoreToken(const RopeArgs& a, int64_t t) {
  const int64_t half = a.d / 2;
  const float* cos = a.cos + t * half;
  const float* sin = a.sin + t * half;
  const T* row = static_cast<const T*>(a.qkv) + t * (a.n + 2 * a.kv) * a.d;
  T* q = static_cast<T*>(a.q) + t * a.n * a.d;
  for (int64_t h = 0; h < a.n; ++h) {
    for (int64_t i = 0; i < half; ++i) {
      float x, y;
      Rotate(ToFloat32(row[h * a.d + i]), ToFloat32(row[h * a.d + half + i]), cos[i], sin[i], &x,
             &y);
      FromFloat32(x, &q[h * a.d + i]);
      FromFloat32(y, &q[h * a.d + half + i]);
    }
  }
  const int64_t slot = a.slots[t];
  if (slot < 0) return;
  const T* keys = row + a.n * a.d;
  const T* values = keys + a.kv * a.d;
  for (int64_t h = 0; h < a.kv; ++h) {
    const int64_t page = (slot / kB * a.kv + h) * kB * a.d;
    P* k = static_cast<P*>(a.k_pages) + page + slot % kB;
    P* v = static_cast<P*>(a.v_pages) + page + slot % kB * a.d;
    for (int64_t i = 0; i < half; ++i) {
      float x, y;
      Rotate(ToFloat32(keys[h * a.d + i]), ToFloat32(keys[h * a.d + half + i]), cos[i], sin[i], &x,
             &y);
      FromFloat32(x, &k[i * kB]);
      FromFloat32(y, &k[(half + i) * kB]);
    }
    for (int64_t i = 0; i < a.d; ++i) FromFloat32(ToFloat32(values[h * a.d + i]), &v[i]);
  }
}
void RopeStoreKv(const RopeArgs& a, int64_t begin, int64_t end) {
  ForElement(a.type, [&]<class T>(T) {
    ForElement(a.kv_type, [&]<class P>(P) {
      for (int64_t t = begin; t < end; ++t) RopeStoreToken<T, P>(a, t);
    });
  });
}

// What a tile keeps between blocks, in its scratch.
struct State {
  float* q;        // [D][n_rows]
  float* out;      // [n_rows][padded D]
  float* weights;  // [n_rows][B]
  float* values;   // [B][padded D]
  int64_t padded;  // D up to a multiple of 16
  float max[kMaxQueryRows];
  float sums[kMaxQueryRows][kB];  // of the weights, by token modulo 16
};

// scores[r] of R rows from row r0 against the block's 16 keys
template <int R, class P>
HWY_INLINE void Scores(const AttentionTile& tile, const State& state, const P* keys, int r0) {
  F32x16 acc[R];
  TRIREME_UNROLL
  for (int r = 0; r < R; ++r) acc[r] = Zero16();
  const float* q = state.q + r0;
  for (int64_t d = 0; d < tile.d; ++d, q += tile.n_rows, keys += kB) {
    const F32x16 k = Load16(keys);
    TRIREME_UNROLL
    for (int r = 0; r < R; ++r) acc[r] = MulAdd(Set16(q[r]), k, acc[r]);
  }
  TRIREME_UNROLL
  for (int r = 0; r < R; ++r) {
    Store16(Mul(acc[r], Set16(tile.scale)), state.weights + (r0 + r) * kB);
  }
}

// Tokens [begin, end) of a block.
struct Seen {
  int64_t begin, end;
  bool any() const { return begin < end; }
  bool operator==(const Seen&) const = default;
};

// Online softmax of one row: scores of the tokens seen become weights, the row's output and sums
// are rescaled to the new maximum.
HWY_INLINE void Weigh(State& state, int r, Seen tokens) {
  float* weights = state.weights + r * kB;
  const Mask16 seen = AndNot(FirstN16(tokens.begin), FirstN16(tokens.end));
  const F32x16 scores = IfThenElse(seen, Load16(weights), Set16(-HUGE_VALF));
  F32x16 sums = Load16(state.sums[r]);
  if (AnyTrue(Gt(scores, Set16(state.max[r])))) {
    const float max = MaxLanes(scores);
    const F32x16 shrink = Exp(Set16(state.max[r] - max));
    float* out = state.out + r * state.padded;
    for (int64_t d = 0; d < state.padded; d += kLanes) {
      Store16(Mul(Load16(out + d), shrink), out + d);
    }
    sums = Mul(sums, shrink);
    state.max[r] = max;
  } else if (state.max[r] == -HUGE_VALF && !AnyTrue(IsNaN(scores))) {
    Store16(Zero16(), weights);  // nothing seen so far has any weight
    return;
  }
  const F32x16 w = IfThenElseZero(seen, Exp(Sub(scores, Set16(state.max[r]))));
  Store16(w, weights);
  Store16(Add(sums, w), state.sums[r]);
}

// out[r] += weights[r][j] * values[j] for the tokens seen, ascending: R rows that all see them, and
// NV vectors of 16 d.
template <int R, int NV, class P>
HWY_INLINE void AccumulateAt(float* out, int64_t padded, const float* weights,
                             const P* HWY_RESTRICT values, int64_t stride, Seen tokens) {
  F32x16 acc[R][NV];
  TRIREME_UNROLL
  for (int r = 0; r < R; ++r) {
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) acc[r][v] = Load16(out + r * padded + v * kLanes);
  }
  values += tokens.begin * stride;
  weights += tokens.begin;
  for (int64_t j = tokens.begin; j < tokens.end; ++j, values += stride, ++weights) {
    F32x16 value[NV];
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) value[v] = Load16(values + v * kLanes);
    TRIREME_UNROLL
    for (int r = 0; r < R; ++r) {
      const F32x16 w = Set16(weights[r * kB]);
      TRIREME_UNROLL
      for (int v = 0; v < NV; ++v) acc[r][v] = MulAdd(w, value[v], acc[r][v]);
    }
  }
  TRIREME_UNROLL
  for (int r = 0; r < R; ++r) {
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) Store16(acc[r][v], out + r * padded + v * kLanes);
  }
}
template <int R, class P>
HWY_INLINE void Accumulate(const State& state, const P* values, int64_t stride, int r0, Seen seen) {
  constexpr int kPair = HWY_TARGET == HWY_AVX3 ? 2 : 1;  // vectors that share a loaded weight
  float* out = state.out + r0 * state.padded;
  const float* weights = state.weights + r0 * kB;
  int64_t d = 0;
  for (; d + kPair * kLanes <= state.padded; d += kPair * kLanes) {
    AccumulateAt<R, kPair>(out + d, state.padded, weights, values + d, stride, seen);
  }
  if (d < state.padded) {
    AccumulateAt<R, 1>(out + d, state.padded, weights, values + d, stride, seen);
  }
}

// Tokens of block b that row r sees.
HWY_INLINE Seen SeenOf(const AttentionTile& tile, int r, int64_t b) {
  const int64_t end = tile.visible[r] - b * kB;
  return {std::clamp<int64_t>(end - tile.window, 0, kB), std::clamp<int64_t>(end, 0, kB)};
}

template <class P>
void AttendBlock(const AttentionTile& tile, State& state, int64_t b, int64_t written) {
  const int64_t page = tile.blocks[b] * tile.block_stride;
  const P* keys = static_cast<const P*>(tile.k_pages) + page;
  const P* values = static_cast<const P*>(tile.v_pages) + page;
  int r = 0;
  for (; r + kRows <= tile.n_rows; r += kRows) Scores<kRows>(tile, state, keys, r);
  for (; r + 2 <= tile.n_rows; r += 2) Scores<2>(tile, state, keys, r);
  for (; r < tile.n_rows; ++r) Scores<1>(tile, state, keys, r);
  for (r = 0; r < tile.n_rows; ++r) {
    if (const Seen seen = SeenOf(tile, r, b); seen.any()) Weigh(state, r, seen);
  }
  const auto accumulate = [&](const auto* v, int64_t stride) HWY_ATTR {
    const auto same = [&](int i, int rows) {  // see the same tokens: rows of a tile ascend in that
      return i + rows <= tile.n_rows && SeenOf(tile, i, b) == SeenOf(tile, i + rows - 1, b);
    };
    for (int i = 0; i < tile.n_rows;) {
      const Seen seen = SeenOf(tile, i, b);
      if (same(i, kRows)) {
        Accumulate<kRows>(state, v, stride, i, seen);
        i += kRows;
      } else if (same(i, 2)) {
        Accumulate<2>(state, v, stride, i, seen);
        i += 2;
      } else {
        Accumulate<1>(state, v, stride, i, seen);
        ++i;
      }
    }
  };
  if (state.padded == tile.d) return accumulate(values, tile.d);
  for (int64_t j = 0; j < written; ++j) {
    for (int64_t d = 0; d < tile.d; ++d) {
      state.values[j * state.padded + d] = ToFloat32(values[j * tile.d + d]);
    }
  }
  accumulate(state.values, state.padded);
}

template <class T>
void LoadQueries(const AttentionTile& tile, float* q) {
  for (int r = 0; r < tile.n_rows; ++r) {
    const T* row = static_cast<const T*>(tile.q[r]);
    for (int64_t d = 0; d < tile.d; ++d) q[d * tile.n_rows + r] = ToFloat32(row[d]);
  }
}
template <class T>
void StoreOutput(const AttentionTile& tile, const State& state, int r) {
  T* y = static_cast<T*>(tile.y[r]);
  const F32x16 sum = Set16(SumLanes(Load16(state.sums[r])));
  const float* out = state.out + r * state.padded;
  for (int64_t d = 0; d < tile.d; d += kLanes) {
    const F32x16 v = Div(Load16(out + d), sum);
    tile.d - d >= kLanes ? Store16(v, y + d) : StoreFirst(v, y + d, tile.d - d);
  }
}

void Attend(const AttentionTile& tile) {
  State state;
  state.padded = (tile.d + kLanes - 1) / kLanes * kLanes;
  state.q = tile.scratch;
  state.out = state.q + kMaxQueryRows * state.padded;
  state.weights = state.out + kMaxQueryRows * state.padded;
  state.values = state.weights + kMaxQueryRows * kB;
  ForElement(tile.type, [&]<class T>(T) { LoadQueries<T>(tile, state.q); });
  std::fill_n(state.out, tile.n_rows * state.padded, 0.0f);
  std::fill_n(state.values, kB * state.padded, 0.0f);
  std::fill_n(state.max, tile.n_rows, -HUGE_VALF);
  std::fill_n(state.sums[0], tile.n_rows * kB, 0.0f);
  const int64_t first = std::max<int64_t>(0, tile.visible[0] - tile.window);
  const int64_t end = tile.visible[tile.n_rows - 1];
  for (int64_t b = first / kB; b * kB < end; ++b) {
    const int64_t written = std::min(kB, end - b * kB);
    ForElement(tile.kv_type, [&]<class P>(P) { AttendBlock<P>(tile, state, b, written); });
  }
  for (int r = 0; r < tile.n_rows; ++r) {
    ForElement(tile.type, [&]<class T>(T) { StoreOutput<T>(tile, state, r); });
  }
}

}  // namespace

AttentionKernels MakeAttentionKernels() { return {.rope_store_kv = RopeStoreKv, .attend = Attend}; }

}  // namespace trireme::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TRIREME_SIMD

#if HWY_ONCE
namespace trireme::cpu {

AttentionKernels AttentionKernelsFor(bool avx512) {
  return avx512 ? N_AVX3::MakeAttentionKernels() : N_AVX2::MakeAttentionKernels();
}

}  // namespace trireme::cpu
#endif
