// Values that every rank can compute for all others, for tests of communicators.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "comm/communicator.h"
#include "gtest/gtest.h"
#include "kernels/sum_tree.h"

namespace trireme {

// A value that every rank can compute, of very different sizes: a sum in another order has other
// bits.
inline float Value(uint64_t seed, int rank, int64_t index) {
  uint64_t x = seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(rank) * 0xbf58476d1ce4e5b9u +
               static_cast<uint64_t>(index) * 0x94d049bb133111ebu;
  x = (x ^ (x >> 31)) * 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  const float mantissa = static_cast<float>(x & 0xffffff) / 16777216.0f - 0.5f;
  return std::ldexp(mantissa, static_cast<int>((x >> 24) % 20) - 10);
}

// The sum over chunks of which the ranks own neighbouring ones, as evenly as may be.
inline GroupSum SumOver(int n_chunks, int n_ranks) {
  const SumTree tree(n_chunks);
  GroupSum sum;
  std::vector<ChunkRange> parts;
  for (int r = 0; r < n_ranks; ++r) {
    const auto cover = tree.Cover({r * n_chunks / n_ranks, (r + 1) * n_chunks / n_ranks});
    sum.n_parts.push_back(static_cast<int>(cover.size()));
    parts.insert(parts.end(), cover.begin(), cover.end());
  }
  sum.merges = tree.Finish(parts);
  return sum;
}

// Memory of a tensor's own.
class Owned {
 public:
  Owned(DType dtype, std::initializer_list<int64_t> shape)
      : tensor_(Tensor(nullptr, dtype, shape)),
        data_(tensor_.bytes() + 1),
        with_data_(data_.data(), dtype, shape) {}
  Tensor get() { return with_data_; }

 private:
  Tensor tensor_;
  std::vector<std::byte> data_;
  Tensor with_data_;
};

inline void Fill(Tensor x, uint64_t seed, int rank) {
  for (int64_t i = 0; i < x.size(); ++i) {
    if (x.dtype() == DType::kF32) {
      x.f32()[i] = Value(seed, rank, i);
    } else {
      x.data<uint16_t>()[i] = Bf16FromFloat(Value(seed, rank, i));
    }
  }
}

inline float At(Tensor y, int64_t i) {
  return y.dtype() == DType::kF32 ? y.f32()[i] : FloatFromBf16(y.data<uint16_t>()[i]);
}
inline float Rounded(float value, DType dtype) {
  return dtype == DType::kF32 ? value : FloatFromBf16(Bf16FromFloat(value));
}

// Element i of [T,H] of the sum of everybody's Fill()ed parts.
inline float ExpectedSum(uint64_t seed, const GroupSum& sum, int64_t n, int64_t i) {
  std::vector<float> stack;
  size_t leaf = 0;
  for (size_t r = 0; r < sum.n_parts.size(); ++r) {
    for (int p = 0; p < sum.n_parts[r]; ++p, ++leaf) {
      stack.push_back(Value(seed, static_cast<int>(r), p * n + i));
      for (int m = 0; m < sum.merges[leaf]; ++m) {
        const float last = stack.back();
        stack.pop_back();
        stack.back() += last;
      }
    }
  }
  EXPECT_EQ(stack.size(), 1u);
  return stack.front();
}

// A reduction of [T,H] to test.
struct ReductionCase {
  int64_t T;
  int64_t H;
  int n_chunks = 8;
  DType dtype = DType::kF32;
  bool bias = false;
  bool in_place = true;  // parts are written where Parts() says
  bool scatter = false;
};

}  // namespace trireme
