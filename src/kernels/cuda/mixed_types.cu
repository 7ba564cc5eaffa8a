// What a GEMM needs where the types of x, W and y are not one: cuBLASLt multiplies only equal
// types.
#include <algorithm>

#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/kernels.h"

namespace trireme::cuda {
namespace {

constexpr int kRowThreads = 256;

__device__ __forceinline__ bool IsFinite(float x) { return fabsf(x) <= 3.402823466e38f; }

// The leading bits of x that a T holds. bf16: cut off, not rounded, so that nothing overflows.
template <typename T>
__device__ __forceinline__ T LeadingBits(float x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (IsFinite(x)) return {static_cast<uint16_t>(__float_as_uint(x) >> 16)};
  }
  return FromFloat<T>(x);
}

// One block a row. The k-th term is what the terms before it left of x.
template <typename T, typename X>
__global__ void CutKernel(T* terms, float* scales, const X* x, int n_terms, int n, int stride) {
  const int64_t row = blockIdx.x, rows = gridDim.x;
  const int i0 = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  x += row * n;
  int exponent = 0;
  if constexpr (std::is_same_v<T, F16>) {
    // The row's largest finite value comes to [2^14, 2^15). What is 2^-39 of it or less is lost.
    float largest = 0;
    for (int i = i0; i < n; i += step) {
      const float value = fabsf(ToFloat(x[i]));
      if (IsFinite(value)) largest = fmaxf(largest, value);
    }
    largest = BlockMax(largest, Shared<float>());
    if (largest > 0) exponent = ilogbf(largest) - 14;
    exponent = exponent > -120 ? exponent : -120;  // 2^exponent is a normal number
    if (threadIdx.x == 0) scales[row] = ldexpf(1.0f, exponent);
  }
  for (int i = i0; i < stride; i += step) {
    float rest = i < n ? ldexpf(ToFloat(x[i]), -exponent) : 0.0f;
    for (int k = 0; k < n_terms; ++k) {
      const T term = LeadingBits<T>(rest);
      terms[(k * rows + row) * stride + i] = term;
      rest = IsFinite(rest) ? rest - ToFloat(term) : 0.0f;
    }
  }
}

template <typename Y>
__global__ void FinishKernel(Y* y, const float* sums, const float* scales, const float* bias,
                             int64_t rows, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const float b = bias != nullptr ? bias[i] : 0.0f;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const float scale = scales != nullptr ? scales[row] : 1.0f;
    y[row * n + i] = FromFloat<Y>(__fmaf_rn(sums[row * n + i], scale, b));
  }
}

unsigned Threads(int64_t n) {
  return static_cast<unsigned>(std::min<int64_t>(kRowThreads, DivideUp(n, kWarp) * kWarp));
}

}  // namespace

void CutIntoTerms(Tensor terms, float* scales, Tensor x, cudaStream_t stream) {
  if (terms.empty()) return;
  const auto cut = [&]<typename T, typename X>(T, X) {
    const unsigned threads = Threads(terms.dim(2));
    Launch<CutKernel<T, X>>(Grid{dim3{static_cast<unsigned>(x.dim(0)), 1, 1}, dim3{threads, 1, 1},
                                 threads / kWarp * sizeof(float), stream},
                            static_cast<T*>(terms.raw()), scales, static_cast<const X*>(x.raw()),
                            static_cast<int>(terms.dim(0)), static_cast<int>(x.dim(1)),
                            static_cast<int>(terms.dim(2)));
  };
  const auto from = [&]<typename T>(T term) {
    ForElement(x.dtype(), [&]<typename X>(X element) {
      if constexpr (!std::is_same_v<T, X>) cut(term, element);
    });
  };
  CHECK(x.dtype() != terms.dtype());
  ForElement(terms.dtype(), from);
}

void FinishSums(Tensor y, const float* sums, const float* scales, const float* bias,
                cudaStream_t stream) {
  if (y.empty()) return;
  const int64_t rows = y.dim(0), n = y.dim(1);
  const Grid grid = {dim3{static_cast<unsigned>(DivideUp(n, Threads(n))),
                          static_cast<unsigned>(std::min(rows, kMostBlocks)), 1},
                     dim3{Threads(n), 1, 1}, 0, stream};
  const auto finish = [&]<typename Y>(Y) {
    Launch<FinishKernel<Y>>(grid, static_cast<Y*>(y.raw()), sums, scales, bias, rows,
                            static_cast<int>(n));
  };
  ForElement(y.dtype(), finish);
}

}  // namespace trireme::cuda
