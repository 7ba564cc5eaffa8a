// Tensor cores and the copies that feed them: thin wrappers of PTX (ISA 8.0, sections mma, ldmatrix
// and cp.async), each beside the body that the emulator runs. All lanes of a warp call them
// together, except the copies.
//
// Fragments of m16n8k16, lane l, g = l / 4, t = l % 4, two 16-bit elements a register, low half
// first:
//   a[0..3]  A[g][2t..], A[g+8][2t..], A[g][2t+8..], A[g+8][2t+8..]      A: 16 x 16 (m x k)
//   b0, b1   B[2t..][g], B[2t+8..][g]                                    B: 16 x 8  (k x n)
//   d[0..3]  D[g][2t], D[g][2t+1], D[g+8][2t], D[g+8][2t+1]              D: 16 x 8  (m x n),
//   float32
#pragma once

#include "kernels/cuda/gpu.cuh"

namespace trireme::cuda {

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// d += a b, of 16 x 16 and 16 x 8 elements of T.
template <typename T>
__device__ __forceinline__ void Mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  if constexpr (std::is_same_v<T, Bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    static_assert(std::is_same_v<T, F16>);
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Matrices of 8 rows of 16 bytes in shared memory; lane l names row l % 8 of matrix l / 8 (of two
// matrices: lanes 0 .. 15). r[i] is elements 2t, 2t+1 of row g of matrix i; kTranspose: elements g
// of rows 2t, 2t+1.
template <bool kTranspose>
__device__ __forceinline__ void LoadMatrices(uint32_t (&r)[4], const void* row) {
  if constexpr (kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
}
template <bool kTranspose>
__device__ __forceinline__ void LoadMatrices(uint32_t (&r)[2], const void* row) {
  if constexpr (kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
}

// 16 bytes into shared memory, or 16 zeros where not `valid`; there after AwaitCopies.
__device__ __forceinline__ void CopyAsync(void* shared, const void* global, bool valid) {
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared)),
      "l"(global), "r"(valid ? 16 : 0)
      : "memory");
}
// This thread's copies since the last call are a group.
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most kGroups of this thread's newest groups are under way.
template <int kGroups>
__device__ __forceinline__ void AwaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Both as T, rounded to nearest even; `low` in the low half.
template <typename T>
__device__ __forceinline__ uint32_t PackPair(float low, float high) {
  uint32_t packed;
  if constexpr (std::is_same_v<T, Bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  } else {
    static_assert(std::is_same_v<T, F16>);
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  }
  return packed;
}

// 2^x, within 2 units in the last place; below 2^-126 it is 0.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#else

namespace internal {

struct Fragments {
  float d[4];
  uint32_t a[4], b[2];
};
template <int N>
struct Registers {
  uint32_t r[N];
};

template <typename T>
float Half(uint32_t packed, int half) {
  return ToFloat(T{static_cast<uint16_t>(packed >> (16 * half))});
}

inline const void* Aligned16(const void* address, const char* what) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) emulator::Fail(what);
  return address;
}

// A lane reads the row that it names when it comes: what other lanes wrote must be there by then.
template <bool kTranspose, int N>
void LoadMatricesInto(uint32_t (&r)[N], const void* row) {
  struct Row {
    uint16_t x[8];
  } mine = {};
  if (static_cast<int>(emulator::place.lane) < 8 * N) {
    std::memcpy(&mine, Aligned16(row, "ldmatrix: a row is not aligned to 16 bytes"), sizeof mine);
  }
  const auto result = emulator::Exchange<Registers<N> >(
      kFullMask, "ldmatrix", mine, [](int lane, const auto& rows) {
        const int g = lane / 4, t = lane % 4;
        Registers<N> out;
        for (int i = 0; i < N; ++i) {
          uint16_t halves[2];
          for (int h = 0; h < 2; ++h) {
            const int from = kTranspose ? 2 * t + h : g, column = kTranspose ? g : 2 * t + h;
            halves[h] = rows[static_cast<size_t>(8 * i + from)].x[column];
          }
          out.r[i] = halves[0] | static_cast<uint32_t>(halves[1]) << 16;
        }
        return out;
      });
  std::memcpy(r, result.r, sizeof r);
}

}  // namespace internal

template <typename T>
void Mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  internal::Fragments mine = {.d = {}, .a = {}, .b = {b0, b1}};
  std::memcpy(mine.d, d, sizeof d);
  std::memcpy(mine.a, a, sizeof a);
  struct Out {
    float d[4];
  };
  const Out out =
      emulator::Exchange<Out>(kFullMask, "mma.m16n8k16", mine, [](int lane, const auto& lanes) {
        Out sums;
        for (int i = 0; i < 4; ++i) {
          const int m = lane / 4 + i / 2 * 8, n = lane % 4 * 2 + i % 2;
          float sum = lanes[static_cast<size_t>(lane)].d[i];
          for (int k = 0; k < 16; ++k) {
            const auto& a_lane = lanes[static_cast<size_t>(m % 8 * 4 + k % 8 / 2)];
            const auto& b_lane = lanes[static_cast<size_t>(n * 4 + k % 8 / 2)];
            sum = std::fma(internal::Half<T>(a_lane.a[k / 8 * 2 + m / 8], k % 2),
                           internal::Half<T>(b_lane.b[k / 8], k % 2), sum);
          }
          sums.d[i] = sum;
        }
        return sums;
      });
  std::memcpy(d, out.d, sizeof d);
}

template <bool kTranspose>
void LoadMatrices(uint32_t (&r)[4], const void* row) {
  internal::LoadMatricesInto<kTranspose>(r, row);
}
template <bool kTranspose>
void LoadMatrices(uint32_t (&r)[2], const void* row) {
  internal::LoadMatricesInto<kTranspose>(r, row);
}

inline void CopyAsync(void* shared, const void* global, bool valid) {
  internal::Aligned16(shared, "cp.async: to an address not aligned to 16 bytes");
  if (valid) internal::Aligned16(global, "cp.async: from an address not aligned to 16 bytes");
  emulator::CopyLater(shared, valid ? global : nullptr, 16);
}
inline void CommitCopies() { emulator::CommitCopies(); }
template <int kGroups>
void AwaitCopies() {
  emulator::WaitForCopies(kGroups);
}

template <typename T>
uint32_t PackPair(float low, float high) {
  return FromFloat<T>(low).bits | static_cast<uint32_t>(FromFloat<T>(high).bits) << 16;
}

inline float Exp2(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}

#endif

}  // namespace trireme::cuda
