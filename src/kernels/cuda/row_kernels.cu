// Verbs that go through rows one by one: norms, adds, the gated activation, embedding, gathers.
// All are bound by bandwidth: each reads and writes every element once, 16 bytes at a time where
// the row length allows it.
#include <algorithm>

#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/philox.h"
#include "kernels/sum_tree.h"

namespace trireme::cuda {
namespace {

constexpr int kRowThreads = 256;

// ---- norms: one block a row ----

// RmsNorm, or LayerNorm where kCentre, after r[t] += x[t] where kAdd (x[t] is then r[t]).
template <typename T, int N, bool kAdd, bool kCentre>
__global__ void NormKernel(T* y, T* r, const T* x, const float* w, const float* b, int n,
                           float eps) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * n;
  const int i0 = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;
  float* sums = Shared<float>();  // two arrays of one per warp
  using P = Pack<T, N>;
  float sum = 0, squares = 0;
  for (int i = i0; i < n; i += step) {
    P p = *reinterpret_cast<const P*>(x + row + i);
    if constexpr (kAdd) {
      P residual = *reinterpret_cast<const P*>(r + row + i);
      GPU_UNROLL
      for (int j = 0; j < N; ++j) {
        residual.x[j] = FromFloat<T>(ToFloat(residual.x[j]) + ToFloat(p.x[j]));
      }
      *reinterpret_cast<P*>(r + row + i) = residual;
      p = residual;
    }
    GPU_UNROLL
    for (int j = 0; j < N; ++j) {
      const float v = ToFloat(p.x[j]);
      if constexpr (kCentre) {
        sum += v;
      } else {
        squares = __fmaf_rn(v, v, squares);
      }
    }
  }
  const T* source = kAdd ? r : x;  // what this thread wrote, or has in cache
  float mean = 0;
  if constexpr (kCentre) {
    mean = BlockSum(sum, sums + blockDim.x / kWarp) / static_cast<float>(n);
    for (int i = i0; i < n; i += step) {
      const P p = *reinterpret_cast<const P*>(source + row + i);
      GPU_UNROLL
      for (int j = 0; j < N; ++j) {
        const float v = ToFloat(p.x[j]) - mean;
        squares = __fmaf_rn(v, v, squares);
      }
    }
  }
  const float variance = BlockSum(squares, sums) / static_cast<float>(n);
  const float scale = 1.0f / sqrtf(variance + eps);
  for (int i = i0; i < n; i += step) {
    const P p = *reinterpret_cast<const P*>(source + row + i);
    P out;
    GPU_UNROLL
    for (int j = 0; j < N; ++j) {
      float v = ToFloat(p.x[j]);
      if constexpr (kCentre) v -= mean;
      v *= scale;
      out.x[j] = FromFloat<T>(b != nullptr ? __fmaf_rn(v, w[i + j], b[i + j]) : v * w[i + j]);
    }
    *reinterpret_cast<P*>(y + row + i) = out;
  }
}

// ---- element by element: a thread has N elements of a row ----

template <int N>
__device__ __forceinline__ int64_t ColumnOf() {
  return (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
}

template <typename T, int N>
__global__ void AddKernel(T* r, const T* x, int64_t n) {
  const int64_t i = ColumnOf<N>();
  if (i >= n) return;
  using P = Pack<T, N>;
  P sum = *reinterpret_cast<const P*>(r + i);
  const P add = *reinterpret_cast<const P*>(x + i);
  GPU_UNROLL
  for (int j = 0; j < N; ++j) sum.x[j] = FromFloat<T>(ToFloat(sum.x[j]) + ToFloat(add.x[j]));
  *reinterpret_cast<P*>(r + i) = sum;
}

// Formulas: Activation in kernels/ops.h.
template <Activation kAct>
__device__ __forceinline__ float ActOf(float a) {
  if constexpr (kAct == Activation::kSilu) {
    return a / (1.0f + expf(-a));
  } else if constexpr (kAct == Activation::kGeluTanh) {
    constexpr float kTwice = 1.5957691216f;  // 2 sqrt(2 / pi)
    return a / (1.0f + expf(-a * __fmaf_rn(a * a, 0.044715f * kTwice, kTwice)));
  } else {
    return 0.5f * a * erfcf(a * -0.70710678f);
  }
}

// y = act(a) * b for x = [a | b] where kGated, else act(x). Rows along the grid's y.
template <typename T, int N, Activation kAct, bool kGated>
__global__ void ActKernel(T* y, const T* x, int64_t rows, int64_t n) {
  const int64_t i = ColumnOf<N>();
  if (i >= n) return;
  using P = Pack<T, N>;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const T* from = x + row * (kGated ? 2 : 1) * n + i;
    const P a = *reinterpret_cast<const P*>(from);
    P b = a, out;
    if constexpr (kGated) b = *reinterpret_cast<const P*>(from + n);
    GPU_UNROLL
    for (int j = 0; j < N; ++j) {
      const float v = ActOf<kAct>(ToFloat(a.x[j]));
      out.x[j] = FromFloat<T>(kGated ? v * ToFloat(b.x[j]) : v);
    }
    *reinterpret_cast<P*>(y + row * n + i) = out;
  }
}

// Bytes of whole rows; `rows` null: row i is row i.
template <typename T>
__global__ void GatherRowsKernel(T* y, const T* x, const int32_t* rows, int64_t n_rows,
                                 int64_t y_stride, int64_t n) {
  const int64_t i = ColumnOf<1>();
  if (i >= n) return;
  for (int64_t row = blockIdx.y; row < n_rows; row += gridDim.y)
    y[row * y_stride + i] = x[rows[row] * n + i];
}

// y[t] = w[ids[t] - first_row], or 0 where that row is not here.   w: [n_rows,stride] of W
template <typename T, typename W, int N>
__global__ void EmbedKernel(T* y, const int32_t* ids, const W* w, int64_t n_tokens, int64_t n_rows,
                            int64_t stride, int64_t first_row, int64_t n) {
  const int64_t i = ColumnOf<N>();
  if (i >= n) return;
  for (int64_t t = blockIdx.y; t < n_tokens; t += gridDim.y) {
    const int64_t row = ids[t] - first_row;
    Pack<T, N> out;
    if (0 <= row && row < n_rows) {
      const Pack<W, N> in = *reinterpret_cast<const Pack<W, N>*>(w + row * stride + i);
      GPU_UNROLL
      for (int j = 0; j < N; ++j) out.x[j] = FromFloat<T>(ToFloat(in.x[j]) + 0.0f);
    } else {
      GPU_UNROLL
      for (int j = 0; j < N; ++j) out.x[j] = FromFloat<T>(0.0f);
    }
    *reinterpret_cast<Pack<T, N>*>(y + t * n + i) = out;
  }
}

// Four columns a thread: one Philox block.
template <typename T>
__global__ void DropoutKernel(T* x, const DropoutRow* rows, int64_t n_rows, int32_t site,
                              int64_t n) {
  const int64_t c = ColumnOf<4>();
  if (c >= n) return;
  for (int64_t t = blockIdx.y; t < n_rows; t += gridDim.y) {
    const DropoutRow row = rows[t];
    if (!(row.p > 0)) continue;
    // kept iff the 32-bit draw is >= p * 2^32, exactly
    const double limit = ceil(static_cast<double>(row.p) * 0x1p32);
    const bool keeps_any = limit < 0x1p32;
    const uint32_t threshold = keeps_any ? static_cast<uint32_t>(limit) : 0;
    const std::array<uint32_t, 4> draws =
        Philox(row.seed, {static_cast<uint32_t>(c / 4), static_cast<uint32_t>(row.position),
                          static_cast<uint32_t>(site), kDropoutPurpose});
    for (int j = 0; j < 4 && c + j < n; ++j) {
      T& value = x[t * n + c + j];
      const bool keep = keeps_any && draws[static_cast<size_t>(j)] >= threshold;
      value = FromFloat<T>(keep ? ToFloat(value) / (1.0f - row.p) : 0.0f);
    }
  }
}

// The parts in the order of `merges`, then the bias.
template <typename T>
__global__ void SumPartsKernel(T* y, PartList parts, const float* bias, int64_t rows, int64_t n) {
  const int64_t i = ColumnOf<1>();
  if (i >= n) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float stack[kMaxSumDepth];
    int top = 0;
    for (int p = 0; p < parts.n; ++p) {
      stack[top++] = parts.parts[p][row * n + i];
      for (int m = 0; m < parts.merges[p]; ++m, --top) stack[top - 2] += stack[top - 1];
    }
    y[row * n + i] = FromFloat<T>(bias != nullptr ? stack[0] + bias[i] : stack[0]);
  }
}

// ---- launches ----

// f(type, pack) with the type of `dtype` and the widest pack that divides rows of n elements.
template <typename F>
void ForType(DType dtype, int64_t n, const F& f) {
  const auto with_pack = [&]<typename T>(T type) {
    if (n % kPack<T> == 0) {
      f(type, std::integral_constant<int, kPack<T>>());
    } else {
      f(type, std::integral_constant<int, 1>());
    }
  };
  ForElement(dtype, with_pack);
}

// A thread for each pack of a row, rows along y.
Grid RowGrid(int64_t rows, int64_t n, int pack, cudaStream_t stream) {
  const int64_t columns = DivideUp(n, pack);
  const auto threads =
      static_cast<unsigned>(std::min<int64_t>(kRowThreads, DivideUp(columns, kWarp) * kWarp));
  return {dim3{static_cast<unsigned>(DivideUp(columns, threads)),
               static_cast<unsigned>(std::min(rows, kMostBlocks)), 1},
          dim3{threads, 1, 1}, 0, stream};
}

template <bool kAdd, bool kCentre>
void Norm(Tensor y, Tensor r, Tensor x, Tensor w, Tensor b, float eps, cudaStream_t stream) {
  const int64_t rows = x.dim(0), n = x.dim(1);
  if (rows == 0 || n == 0) return;
  ForType(x.dtype(), n, [&]<typename T, typename Size>(T, Size) {
    const auto threads = static_cast<unsigned>(
        std::min<int64_t>(kRowThreads, DivideUp(n / Size::value, kWarp) * kWarp));
    const Grid grid = {dim3{static_cast<unsigned>(rows), 1, 1}, dim3{threads, 1, 1},
                       2 * threads / kWarp * sizeof(float), stream};
    Launch<NormKernel<T, Size::value, kAdd, kCentre>>(
        grid, static_cast<T*>(y.raw()), static_cast<T*>(kAdd ? r.raw() : nullptr),
        static_cast<const T*>(x.raw()), static_cast<const float*>(w.raw()),
        static_cast<const float*>(b.raw()), static_cast<int>(n), eps);
  });
}

template <bool kGated>
void RunAct(Tensor y, Tensor x, Activation act, int64_t rows, int64_t n, cudaStream_t stream) {
  if (y.empty()) return;
  ForType(x.dtype(), n, [&]<typename T, typename Size>(T, Size) {
    const auto launch = [&]<Activation kAct>(std::integral_constant<Activation, kAct>) {
      Launch<ActKernel<T, Size::value, kAct, kGated>>(RowGrid(rows, n, Size::value, stream),
                                                      static_cast<T*>(y.raw()),
                                                      static_cast<const T*>(x.raw()), rows, n);
    };
    switch (act) {
      case Activation::kSilu:
        return launch(std::integral_constant<Activation, Activation::kSilu>());
      case Activation::kGelu:
        return launch(std::integral_constant<Activation, Activation::kGelu>());
      case Activation::kGeluTanh:
        return launch(std::integral_constant<Activation, Activation::kGeluTanh>());
    }
  });
}

}  // namespace

void RmsNorm(Tensor y, Tensor x, Tensor w, float eps, cudaStream_t stream) {
  Norm<false, false>(y, x, x, w, {}, eps, stream);
}

void AddRmsNorm(Tensor y, Tensor r, Tensor x, Tensor w, float eps, cudaStream_t stream) {
  Norm<true, false>(y, r, x, w, {}, eps, stream);
}

void LayerNorm(Tensor y, Tensor x, Tensor w, Tensor b, float eps, cudaStream_t stream) {
  Norm<false, true>(y, x, x, w, b, eps, stream);
}

void AddLayerNorm(Tensor y, Tensor r, Tensor x, Tensor w, Tensor b, float eps,
                  cudaStream_t stream) {
  Norm<true, true>(y, r, x, w, b, eps, stream);
}

void Add(Tensor r, Tensor x, cudaStream_t stream) {
  if (x.empty()) return;
  ForType(x.dtype(), x.size(), [&]<typename T, typename Size>(T, Size) {
    Launch<AddKernel<T, Size::value>>(RowGrid(1, x.size(), Size::value, stream),
                                      static_cast<T*>(r.raw()), static_cast<const T*>(x.raw()),
                                      x.size());
  });
}

void GatedAct(Tensor y, Tensor x, Activation act, cudaStream_t stream) {
  RunAct<true>(y, x, act, y.dim(0), y.dim(1), stream);
}

void Act(Tensor y, Tensor x, Activation act, cudaStream_t stream) {
  RunAct<false>(y, x, act, 1, y.size(), stream);
}

void GatherRows(Tensor y, Tensor x, Tensor rows, cudaStream_t stream) {
  if (y.empty() || x.empty()) return;
  const auto gather = [&]<typename T>(T) {
    Launch<GatherRowsKernel<T>>(RowGrid(y.dim(0), x.dim(1), 1, stream), static_cast<T*>(y.raw()),
                                static_cast<const T*>(x.raw()), rows.i32(), y.dim(0), y.dim(1),
                                x.dim(1));
  };
  SizeOf(x.dtype()) == 4 ? gather(uint32_t()) : gather(uint16_t());
}

void Dropout(Tensor x, const DropoutRow* rows, int32_t site, cudaStream_t stream) {
  if (x.empty()) return;
  ForType(x.dtype(), x.dim(1), [&]<typename T, typename Size>(T, Size) {
    Launch<DropoutKernel<T>>(RowGrid(x.dim(0), x.dim(1), 4, stream), static_cast<T*>(x.raw()), rows,
                             x.dim(0), site, x.dim(1));
  });
}

void SumParts(Tensor y, const PartList& parts, const float* bias, cudaStream_t stream) {
  if (y.empty()) return;
  ForType(y.dtype(), y.dim(1), [&]<typename T, typename Size>(T, Size) {
    Launch<SumPartsKernel<T>>(RowGrid(y.dim(0), y.dim(1), 1, stream), static_cast<T*>(y.raw()),
                              parts, bias, y.dim(0), y.dim(1));
  });
}

void Embed(Tensor y, Tensor ids, Tensor w, int64_t first_row, cudaStream_t stream) {
  if (y.empty()) return;
  const int64_t n = y.dim(1);
  const auto embed = [&]<typename T, typename W>(T, W) {
    const auto launch = [&](auto size) {
      Launch<EmbedKernel<T, W, size.value>>(
          RowGrid(y.dim(0), n, size.value, stream), static_cast<T*>(y.raw()), ids.i32(),
          static_cast<const W*>(w.raw()), y.dim(0), w.dim(0), w.dim(1), first_row, n);
    };
    n % 4 == 0 && w.dim(1) % 4 == 0 ? launch(std::integral_constant<int, 4>())
                                    : launch(std::integral_constant<int, 1>());
  };
  ForElement(w.dtype(), [&](auto weight) {
    ForElement(y.dtype(), [&](auto element) { embed(element, weight); });
  });
}

}  // namespace trireme::cuda
