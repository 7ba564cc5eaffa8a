// Packing: conversion of element types, and transposition into panels.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pack_kernels.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/kernels.h"

#if TRIREME_SIMD
#include <algorithm>
#include <cstring>

#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::cpu::HWY_NAMESPACE {
namespace {

template <class From, class To>
void ConvertAs(const void* from, void* to, int64_t n) {
  const From* in = static_cast<const From*>(from);
  To* out = static_cast<To*>(to);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store16(Load16(in + i), out + i);
  if (i < n) {
    To rest[kLanes];
    Store16(LoadFirst(in + i, n - i), rest);
    std::memcpy(out + i, rest, static_cast<size_t>(n - i) * sizeof(To));
  }
}
void Convert(const void* from, DType from_type, void* to, DType to_type, int64_t n) {
  ForElement(from_type, [&]<class From>(From) {
    ForElement(to_type, [&]<class To>(To) { ConvertAs<From, To>(from, to, n); });
  });
}

using D8 = hn::Full256<uint32_t>;
using D4x64 = hn::Full256<uint64_t>;
using V8 = hn::Vec<D8>;

// Eight rows of eight words, the rows `stride` words apart, as columns kPanel words apart.
HWY_INLINE void Transpose8x8(const std::byte* rows, int64_t row_bytes, uint32_t* out) {
  const D8 d;
  const D4x64 d64;
  V8 r[8], pairs[8], quads[8];
  TRIREME_UNROLL
  for (int i = 0; i < 8; ++i) {
    r[i] = hn::LoadU(d, reinterpret_cast<const uint32_t*>(rows + i * row_bytes));
  }
  TRIREME_UNROLL
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = hn::InterleaveLower(d, r[i], r[i + 1]);      // columns 0, 1 | 4, 5
    pairs[i + 1] = hn::InterleaveUpper(d, r[i], r[i + 1]);  // columns 2, 3 | 6, 7
  }
  const auto lower = [&](V8 a, V8 b) HWY_ATTR {
    return hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
  };
  const auto upper = [&](V8 a, V8 b) HWY_ATTR {
    return hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
  };
  TRIREME_UNROLL
  for (int i = 0; i < 8; i += 4) {  // rows i .. i+3 of columns c | c + 4
    quads[i] = lower(pairs[i], pairs[i + 2]);
    quads[i + 1] = upper(pairs[i], pairs[i + 2]);
    quads[i + 2] = lower(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = upper(pairs[i + 1], pairs[i + 3]);
  }
  TRIREME_UNROLL
  for (int c = 0; c < 4; ++c) {
    hn::StoreU(hn::ConcatLowerLower(d, quads[c + 4], quads[c]), d, out + c * kPanel);
    hn::StoreU(hn::ConcatUpperUpper(d, quads[c + 4], quads[c]), d, out + (c + 4) * kPanel);
  }
}

// n words of each of kPanel rows as [n][kPanel].
void TransposeWords(const std::byte* rows, int64_t row_bytes, int64_t n, uint32_t* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {  // a cache line of each row
    for (int r = 0; r < kPanel; r += 8) {
      for (int half = 0; half < 16; half += 8) {
        Transpose8x8(rows + r * row_bytes + (i + half) * 4, row_bytes,
                     out + (i + half) * kPanel + r);
      }
    }
  }
  for (; i < n; ++i) {
    for (int r = 0; r < kPanel; ++r) {
      std::memcpy(&out[i * kPanel + r], rows + r * row_bytes + i * 4, 4);
    }
  }
}

// n half-words of each of kPanel rows as pairs [n/2][kPanel][2]; an odd last one is paired with 0.
void TransposePairs(const std::byte* rows, int64_t row_bytes, int64_t n, uint16_t* out) {
  TransposeWords(rows, row_bytes, n / 2, reinterpret_cast<uint32_t*>(out));
  if (n % 2 == 0) return;
  for (int r = 0; r < kPanel; ++r) {
    std::memcpy(&out[(n - 1) * kPanel + 2 * r], rows + r * row_bytes + (n - 1) * 2, 2);
    out[(n - 1) * kPanel + 2 * r + 1] = 0;
  }
}

// n half-words of each of kPanel rows as [n][kPanel]: the pairs of 16, taken apart.
void TransposeHalves(const std::byte* rows, int64_t row_bytes, int64_t n, uint16_t* out) {
  constexpr int64_t kPiece = 32;
  uint16_t pairs[kPiece * kPanel];
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t count = std::min(kPiece, n - i);
    TransposePairs(rows + i * 2, row_bytes, count, pairs);
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t r = 0; r < kPanel; ++r) {
        out[(i + j) * kPanel + r] = pairs[(j / 2 * kPanel + r) * 2 + j % 2];
      }
    }
  }
}

void PackSegment(void* out, DType type, const std::byte* rows, int64_t row_bytes, int64_t n) {
  if (type == DType::kF32) {
    TransposeWords(rows, row_bytes, n, static_cast<uint32_t*>(out));
  } else if (type == DType::kBF16) {
    TransposePairs(rows, row_bytes, n, static_cast<uint16_t*>(out));
  } else {
    TransposeHalves(rows, row_bytes, n, static_cast<uint16_t*>(out));
  }
}

}  // namespace

PackKernels MakePackKernels() { return {.convert = Convert, .pack_segment = PackSegment}; }

}  // namespace trireme::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TRIREME_SIMD

#if HWY_ONCE
namespace trireme::cpu {

PackKernels PackKernelsFor(bool avx512) {
  return avx512 ? N_AVX3::MakePackKernels() : N_AVX2::MakePackKernels();
}

}  // namespace trireme::cpu
#endif
