// A row of logits that lies in shards, and the order of its ids: (logit descending, id ascending).
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/vocab.h"
#include "kernels/filter.h"

namespace trireme::cuda {

constexpr int kNoId = 0x7fffffff;
using Mass = unsigned long long;  // what atomicAdd knows 64 bits as

__device__ __forceinline__ float MinusInfinity() { return -__uint_as_float(0x7f800000u); }
__device__ __forceinline__ float OrMinusInfinity(float x) {
  return x > MinusInfinity() ? x : MinusInfinity();
}

__device__ __forceinline__ bool Before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

__device__ __forceinline__ Scored WarpBest(Scored best) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Scored other = {__shfl_xor_sync(kFullMask, best.score, distance),
                          __shfl_xor_sync(kFullMask, best.id, distance)};
    if (Before(other, best)) best = other;
  }
  return best;
}

// Over all shards.
struct VocabRow {
  const float* logits;  // of the first shard
  int64_t shard_stride;
  const ShardFirsts* shards;
  float max, inverse_temperature;

  // f(logit, id) for every id, by all threads of the block; NaN comes as -inf.
  template <typename F>
  __device__ void Each(const F& f) const {
    for (int shard = 0; shard < shards->n; ++shard) {
      const int first = shards->firsts[shard], n = shards->firsts[shard + 1] - first;
      for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
        f(OrMinusInfinity(logits[shard * shard_stride + i]), first + i);
      }
    }
  }

  __device__ Mass MassOf(float x) const {
    if (x == max) return kWholeMass;
    return static_cast<Mass>(expf((x - max) * inverse_temperature) *
                             static_cast<float>(kWholeMass));
  }
};

}  // namespace trireme::cuda
