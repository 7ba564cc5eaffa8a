// Attention of 16 rows by a warp on the tensor cores, types T of 16 bits: scores, online softmax
// (Milakov & Gimelshein 2018), weighted values, as FlashAttention-2 orders them (Dao 2023).
// Fragments as in mma.cuh: lane 4 g + t has columns 2 t, 2 t + 1 of rows g and g + 8.
#pragma once

#include "kernels/cuda/attention_step.cuh"

namespace trireme::cuda {

// Rows in shared memory: an odd number of 16 bytes apart, so that 8 of them lie in 8 bank groups.
template <int kD>
constexpr int kStride = kD + 8;

// What a warp keeps of 16 rows between tokens.
template <int kD>
struct RowState {
  float max[2] = {-INFINITY, -INFINITY};  // of the scores of rows g, g + 8, times scale
  float sum[2] = {0, 0};                  // of this lane's weights
  float out[kD / 8][4] = {};              // fragments along D
};

// The queries of a tile's pairs into rows of shared memory: zeros where there are none.
template <int kD, int kPairs, typename T>
__device__ __forceinline__ void LoadQueries(T* shared, const AttentionArgs& a, const Tile& tile) {
  CopyRows(shared, kPairs, kD, kStride<kD>, a.q, a.d, static_cast<int>(threadIdx.x),
           kAttentionThreads,
           [&](int p) -> int64_t { return p < tile.n_pairs ? tile.Element(a, p) : -1; });
}

// query(m, k, a): A of rows 16 m, columns 16 k, from rows in shared memory
template <int kD, typename T>
__device__ __forceinline__ auto QueryFragments(const T* queries) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* row = queries + lane % 16 * kStride<kD> + lane / 16 * 8;
  return [row](int m, int k, uint32_t(&a)[4]) {
    LoadMatrices<false>(a, row + m * 16 * kStride<kD> + k * 16);
  };
}

// s[m] = queries of tile m times keys; N fragments of 8 tokens
template <int kD, int kM, int N, typename Query, typename T>
__device__ __forceinline__ void Scores(float (&s)[kM][N][4], const Query& query, const T* keys) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  GPU_UNROLL
  for (int m = 0; m < kM; ++m) {
    GPU_UNROLL
    for (int n = 0; n < N; ++n) {
      GPU_UNROLL
      for (int i = 0; i < 4; ++i) s[m][n][i] = 0;
    }
  }
  const T* row = keys + (lane / 16 * 8 + lane % 8) * kStride<kD> + lane / 8 % 2 * 8;
  GPU_UNROLL
  for (int k = 0; k < kD / 16; ++k) {
    uint32_t a[kM][4];
    GPU_UNROLL
    for (int m = 0; m < kM; ++m) query(m, k, a[m]);
    GPU_UNROLL
    for (int n = 0; n < N; n += 2) {
      uint32_t b[4];
      LoadMatrices<false>(b, row + n * 8 * kStride<kD> + k * 16);
      GPU_UNROLL
      for (int m = 0; m < kM; ++m) {
        Mma<T>(s[m][n], a[m], b[0], b[1]);
        Mma<T>(s[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// Scores of the tokens from `first` on that a row does not see: rows g and g + 8 see seen(0) and
// seen(8).
template <int N, typename Seen>
__device__ __forceinline__ void Mask(float (&s)[N][4], int first, const Seen& seen) {
  const int column = first + static_cast<int>(threadIdx.x) % 4 * 2;
  GPU_UNROLL
  for (int r = 0; r < 2; ++r) {
    const Range tokens = seen(8 * r);
    GPU_UNROLL
    for (int n = 0; n < N; ++n) {
      if (!tokens.Has(column + n * 8)) s[n][2 * r] = -INFINITY;
      if (!tokens.Has(column + n * 8 + 1)) s[n][2 * r + 1] = -INFINITY;
    }
  }
}

// Scores become weights; the rows' state is rescaled to their new maxima.
template <int kD, int N>
__device__ __forceinline__ void Weigh(float (&s)[N][4], RowState<kD>& state, float scale) {
  GPU_UNROLL
  for (int r = 0; r < 2; ++r) {
    float top = -INFINITY;
    GPU_UNROLL
    for (int n = 0; n < N; ++n) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(kFullMask, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kFullMask, top, 2));
    const float max = fmaxf(state.max[r], top * scale);
    const float base = Base(max);
    const float shrink = Exp2(state.max[r] - base);
    state.max[r] = max;
    float sum = 0;
    GPU_UNROLL
    for (int n = 0; n < N; ++n) {
      GPU_UNROLL
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        s[n][i] = Exp2(__fmaf_rn(s[n][i], scale, -base));
        sum += s[n][i];
      }
    }
    state.sum[r] = __fmaf_rn(state.sum[r], shrink, sum);
    GPU_UNROLL
    for (int n = 0; n < kD / 8; ++n) {
      state.out[n][2 * r] *= shrink;
      state.out[n][2 * r + 1] *= shrink;
    }
  }
}

// state[m].out += weights[m] times values
template <int kD, int kM, int N, typename T>
__device__ __forceinline__ void Accumulate(RowState<kD> (&state)[kM], const float (&s)[kM][N][4],
                                           const T* values) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* row = values + lane % 16 * kStride<kD> + lane / 16 * 8;
  GPU_UNROLL
  for (int k = 0; k < N / 2; ++k) {
    uint32_t a[kM][4];  // the accumulators' layout is that of A
    GPU_UNROLL
    for (int m = 0; m < kM; ++m) {
      GPU_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float(&from)[4] = s[m][2 * k + i / 2];
        a[m][i] = PackPair<T>(from[i % 2 * 2], from[i % 2 * 2 + 1]);
      }
    }
    GPU_UNROLL
    for (int n = 0; n < kD / 8; n += 2) {
      uint32_t b[4];
      LoadMatrices<true>(b, row + k * 16 * kStride<kD> + n * 8);
      GPU_UNROLL
      for (int m = 0; m < kM; ++m) {
        Mma<T>(state[m].out[n], a[m], b[0], b[1]);
        Mma<T>(state[m].out[n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// The sum over the four lanes that share a row.
__device__ __forceinline__ float RowSum(float x) {
  x += __shfl_xor_sync(kFullMask, x, 1);
  return x + __shfl_xor_sync(kFullMask, x, 2);
}

// f(T(), the kernel's kD) for a type of 16 bits and head size d: the smallest kD that holds it.
template <typename F>
void ForMmaType(DType type, int d, const F& f) {
  const auto with = [&]<typename T>(T element) {
    if constexpr (!std::is_same_v<T, float>) {
      if (d <= 32) return f(element, std::integral_constant<int, 32>());
      if (d <= 64) return f(element, std::integral_constant<int, 64>());
      if (d <= 96) return f(element, std::integral_constant<int, 96>());
      if (d <= 128) return f(element, std::integral_constant<int, 128>());
      f(element, std::integral_constant<int, 256>());
    }
  };
  ForElement(type, with);
}

}  // namespace trireme::cuda
