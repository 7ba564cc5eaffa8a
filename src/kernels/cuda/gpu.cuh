// What kernels use of the machine, in one place: launches, shared memory, warps, types. The only
// header that knows whether nvcc compiles a kernel or g++ does for the emulator.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "base/check.h"
#include "kernels/cuda/fault.h"
#include "kernels/dtype.h"

namespace trireme::cuda {

constexpr int kWarp = 32;
constexpr unsigned kFullMask = 0xffffffffu;
constexpr int64_t kMostBlocks = 65535;  // of a grid's y and z

inline int64_t DivideUp(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Where a kernel runs.
struct Grid {
  dim3 blocks, threads;
  size_t shared_bytes;
  cudaStream_t stream;
};

#ifdef __CUDACC__

#define GPU_UNROLL _Pragma("unroll")
#define GPU_NO_UNROLL _Pragma("unroll 1")

extern __shared__ __align__(16) unsigned char shared_memory[];

template <typename T>
__device__ __forceinline__ T* Shared() {
  return reinterpret_cast<T*>(shared_memory);
}

// 16 bytes that no thread reads again and that no kernel writes meanwhile: they pass by L1.
template <typename P>
__device__ __forceinline__ P LoadOnce(const P* from) {
  static_assert(sizeof(P) == 16);
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(from));
  return *reinterpret_cast<P*>(&v);
}

__device__ __forceinline__ float FloatFromHalf(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
__device__ __forceinline__ uint16_t HalfFromFloat(float x) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

template <auto kKernel, typename... Args>
void Launch(const Grid& grid, Args... args) {
  if (grid.shared_bytes > 48 * 1024) {
    Check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kKernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(grid.shared_bytes)),
          "cudaFuncSetAttribute");
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = grid.stream;
  Check(cudaLaunchKernelEx(&config, kKernel, args...), __PRETTY_FUNCTION__);
}

#else

#define GPU_UNROLL
#define GPU_NO_UNROLL

template <typename T>
T* Shared() {
  return reinterpret_cast<T*>(emulator::SharedMemory());
}

template <typename P>
P LoadOnce(const P* from) {
  return *from;
}

inline float FloatFromHalf(uint16_t bits) { return FloatFromF16(bits); }
inline uint16_t HalfFromFloat(float x) { return F16FromFloat(x); }

template <auto kKernel, typename... Args>
void Launch(const Grid& grid, Args... args) {
  Check(emulator::LaunchKernel(__PRETTY_FUNCTION__, grid.blocks, grid.threads, grid.shared_bytes,
                               grid.stream, [=] { kKernel(args...); }),
        __PRETTY_FUNCTION__);
}

#endif

// ---- types ----

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(Bf16 x) { return FloatFromBf16(x.bits); }
__device__ __forceinline__ float ToFloat(F16 x) { return FloatFromHalf(x.bits); }

template <typename T>
__device__ __forceinline__ T FromFloat(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, Bf16>) {
    return {Bf16FromFloat(x)};
  } else {
    return {HalfFromFloat(x)};
  }
}

// f(T()) for the T that `type` names.
template <typename F>
void ForElement(DType type, const F& f) {
  switch (type) {
    case DType::kF32:
      return f(float());
    case DType::kF16:
      return f(F16());
    case DType::kBF16:
      return f(Bf16());
    case DType::kI32:
      CHECK(false) << "integers";
  }
}

// y[i] = x, rounded to y's type.
__device__ __forceinline__ void Store(void* y, DType type, int64_t i, float x) {
  if (type == DType::kF32) {
    static_cast<float*>(y)[i] = x;
  } else {
    static_cast<uint16_t*>(y)[i] =
        type == DType::kBF16 ? FromFloat<Bf16>(x).bits : FromFloat<F16>(x).bits;
  }
}

// N elements that move in one access: 16 bytes where the address allows it.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T x[N];
};
template <typename T>
constexpr int kPack = 16 / sizeof(T);

// ---- warps and blocks ----

__device__ __forceinline__ float WarpSum(float x) {
  GPU_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    x += __shfl_xor_sync(kFullMask, x, distance);
  }
  return x;
}

__device__ __forceinline__ float WarpMax(float x) {
  GPU_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kFullMask, x, distance));
  }
  return x;
}

// x[i] summed over the warp, for N sums at once (a power of two, at most 32): the lanes of the i-th
// group of 32 / N get the i-th. The same additions as WarpSum's, fewer of them. x is used up.
template <int N, int kDistance = kWarp / 2>
__device__ __forceinline__ float WarpSums(float* x) {
  if constexpr (N > 1) {
    const bool upper = (threadIdx.x & kDistance) != 0;
    GPU_UNROLL
    for (int i = 0; i < N / 2; ++i) {
      const float keep = upper ? x[i + N / 2] : x[i];
      const float give = upper ? x[i] : x[i + N / 2];
      x[i] = keep + __shfl_xor_sync(kFullMask, give, kDistance);
    }
    if constexpr (kDistance > 1) return WarpSums<N / 2, kDistance / 2>(x);
  } else {
    GPU_UNROLL
    for (int distance = kDistance; distance > 0; distance /= 2) {
      x[0] += __shfl_xor_sync(kFullMask, x[0], distance);
    }
  }
  return x[0];
}

// The sum over a block of whole warps, in every thread. shared: one float per warp; free again
// after the block's next barrier.
__device__ __forceinline__ float BlockSum(float x, float* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int n_warps = static_cast<int>(blockDim.x) / kWarp;
  x = WarpSum(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return WarpSum(lane < n_warps ? shared[lane] : 0.0f);
}

__device__ __forceinline__ float BlockMax(float x, float* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int n_warps = static_cast<int>(blockDim.x) / kWarp;
  x = WarpMax(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return WarpMax(shared[lane < n_warps ? lane : 0]);
}

}  // namespace trireme::cuda
