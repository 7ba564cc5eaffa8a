// y = x W^T: row tiles times panels of 32 output columns, one SIMD lane per output.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_kernels.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/kernels.h"

#if TRIREME_SIMD
#include <cstddef>
#include <utility>

#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::cpu::HWY_NAMESPACE {
namespace {

// Accumulators that fit the registers: R rows of kVectors vectors of 16 columns. One vector is best
// where there are rows enough to hide the latency: weights are widened once for all rows.
constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 16 : 6;
constexpr int kOnePassRows = HWY_TARGET == HWY_AVX3 ? 7 : 3;
template <int R>
constexpr int kVectors = R <= kOnePassRows ? 2 : 1;

template <class W>
constexpr int64_t kSlots = 1;  // consecutive k that are packed together
template <>
constexpr int64_t kSlots<Bf16> = 2;

// Few rows in one pass are left to the hardware's prefetcher, which keeps up with them.
template <int R, int NV>
HWY_INLINE void PrefetchNext(const std::byte*& next, int64_t bytes) {
  if constexpr (NV == 1 || R >= 5) {
    for (int64_t i = 0; i < bytes; i += 64) hwy::Prefetch(next + i);
    next += bytes;
  }
}

// acc[r][v] += x[r] * w[v]
template <int R, int NV>
HWY_INLINE void MultiplyAddRows(F32x16 (&acc)[R][NV], const float* HWY_RESTRICT x,
                                const F32x16 (&w)[NV]) {
  TRIREME_UNROLL
  for (int r = 0; r < R; ++r) {
    const F32x16 xr = Set16(x[r]);
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) acc[r][v] = MulAdd(xr, w[v], acc[r][v]);
  }
}

// acc[r][v] += x[k][r] * w[k][16 v ..] for n ascending k.
template <int R, int NV, class W>
HWY_INLINE void MultiplyAdd(F32x16 (&acc)[R][NV], const float* HWY_RESTRICT x,
                            const W* HWY_RESTRICT w, int32_t n, const std::byte* next) {
  for (int32_t k = 0; k < n; ++k, x += R, w += kPanel) {
    F32x16 wv[NV];
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) wv[v] = Load16(w + v * kLanes);
    PrefetchNext<R, NV>(next, NV * kLanes * sizeof(W));
    MultiplyAddRows(acc, x, wv);
  }
}

// Pairs of k: the even one in the lower half of each 32-bit lane. An odd n leaves the last upper
// half unread, so that padding never meets an infinite x.
template <int R, int NV>
HWY_INLINE void MultiplyAdd(F32x16 (&acc)[R][NV], const float* HWY_RESTRICT x,
                            const Bf16* HWY_RESTRICT w, int32_t n, const std::byte* next) {
  const U32x16 upper = Set16(0xffff0000u);
  U32x16 pair[NV];
  F32x16 wv[NV];
  for (int32_t k = 0; k + 1 < n; k += 2, x += 2 * R, w += 2 * kPanel) {
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) {
      pair[v] = LoadUnsigned(w + 2 * v * kLanes);
      wv[v] = AsFloat(ShiftLeft16<16>(pair[v]));
    }
    PrefetchNext<R, NV>(next, 2 * NV * kLanes * sizeof(Bf16));
    MultiplyAddRows(acc, x, wv);
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) wv[v] = AsFloat(And(pair[v], upper));
    MultiplyAddRows(acc, x + R, wv);
  }
  if (n % 2 != 0) {
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) {
      wv[v] = AsFloat(ShiftLeft16<16>(LoadUnsigned(w + 2 * v * kLanes)));
    }
    MultiplyAddRows(acc, x, wv);
  }
}

// One segment for NV * 16 of the panel's columns. `sums` is the stack at those columns.
template <int R, int NV, class W>
HWY_INLINE int OneSegment(const Segment& segment, const float* x, const W* w, float* sums, int top,
                          const std::byte* next) {
  constexpr int64_t kEntry = R * kPanel;
  F32x16 acc[R][NV];
  if (!segment.first) --top;
  const float* old = sums + top * kEntry;
  TRIREME_UNROLL
  for (int r = 0; r < R; ++r) {
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) {
      acc[r][v] = segment.first ? Zero16() : Load16(old + r * kPanel + v * kLanes);
    }
  }
  MultiplyAdd<R, NV>(acc, x, w, segment.n, next);
  const int merges = segment.last ? segment.merges : 0;
  for (int m = 0; m < merges; ++m) {
    --top;
    TRIREME_UNROLL
    for (int r = 0; r < R; ++r) {
      TRIREME_UNROLL
      for (int v = 0; v < NV; ++v) {
        acc[r][v] = Add(Load16(sums + top * kEntry + r * kPanel + v * kLanes), acc[r][v]);
      }
    }
  }
  TRIREME_UNROLL
  for (int r = 0; r < R; ++r) {
    TRIREME_UNROLL
    for (int v = 0; v < NV; ++v) {
      Store16(acc[r][v], sums + top * kEntry + r * kPanel + v * kLanes);
    }
  }
  return top + 1;
}

template <int R, class W>
int Tile(const TileArgs& args) {
  constexpr int NV = kVectors<R>;
  int top = args.top;
  for (const Segment& segment : args.segments) {
    const float* x = args.x + int64_t{segment.k} * R;
    const W* w = static_cast<const W*>(args.w) + int64_t{segment.slot} * kPanel;
    // What a pass prefetches: its share, in order, of what lies `ahead` of this segment.
    const std::byte* next = reinterpret_cast<const std::byte*>(w) + args.ahead;
    const int64_t share = int64_t{segment.n} * NV * kLanes * static_cast<int64_t>(sizeof(W));
    int new_top = 0;
    for (int column = 0; column < kPanel; column += NV * kLanes, next += share) {
      new_top =
          OneSegment<R, NV, W>(segment, x, w + column * kSlots<W>, args.stack + column, top, next);
    }
    top = new_top;
  }
  return top;
}

template <class T>
void PackRows(float* out, const T* x, int64_t row_stride, int rows, int64_t k) {
  if (rows == 1) {
    int64_t i = 0;
    for (; i + kLanes <= k; i += kLanes) Store16(Load16(x + i), out + i);
    for (; i < k; ++i) out[i] = ToFloat32(x[i]);
    return;
  }
  for (int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < rows; ++r) out[i * rows + r] = ToFloat32(x[r * row_stride + i]);
  }
}
void PackX(float* out, const void* x, DType x_type, int64_t row_stride, int rows, int64_t k) {
  ForElement(x_type,
             [&]<class T>(T) { PackRows(out, static_cast<const T*>(x), row_stride, rows, k); });
}

template <class T>
void FinishAs(const FinishArgs& a) {
  for (int part = 0; part < a.n_parts; ++part) {
    for (int r = 0; r < a.rows; ++r) {
      const float* sum = a.stack + (int64_t{part} * a.rows + r) * kPanel;
      T* y = static_cast<T*>(a.y) + part * a.part_stride + r * a.row_stride;
      for (int c = 0; c < a.n_cols; c += kLanes) {
        F32x16 v = Load16(sum + c);
        if (a.bias != nullptr) v = Add(v, Load16(a.bias + c));
        if (a.n_cols - c >= kLanes) {
          Store16(v, y + c);
        } else {
          StoreFirst(v, y + c, a.n_cols - c);
        }
      }
    }
  }
}
void Finish(const FinishArgs& args) {
  ForElement(args.y_type, [&]<class T>(T) { FinishAs<T>(args); });
}

template <int... kRows>
void FillTiles(LinearKernels* kernels, std::integer_sequence<int, kRows...>) {
  ((kernels->tile[static_cast<int>(DType::kF32)][kRows + 1] = Tile<kRows + 1, float>), ...);
  ((kernels->tile[static_cast<int>(DType::kF16)][kRows + 1] = Tile<kRows + 1, F16>), ...);
  ((kernels->tile[static_cast<int>(DType::kBF16)][kRows + 1] = Tile<kRows + 1, Bf16>), ...);
}

}  // namespace

LinearKernels MakeLinearKernels() {
  LinearKernels kernels = {};
  kernels.max_rows = kMaxRows;
  FillTiles(&kernels, std::make_integer_sequence<int, kMaxRows>());
  kernels.pack_x = PackX;
  kernels.finish = Finish;
  return kernels;
}

}  // namespace trireme::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TRIREME_SIMD

#if HWY_ONCE
namespace trireme::cpu {

LinearKernels LinearKernelsFor(bool avx512) {
  return avx512 ? N_AVX3::MakeLinearKernels() : N_AVX2::MakeLinearKernels();
}

}  // namespace trireme::cpu
#endif
