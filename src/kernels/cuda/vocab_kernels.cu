// Verbs over rows of logits: draws, the largest, masks, sums of exponentials.
#include <algorithm>

#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/vocab.h"
#include "kernels/philox.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTopThreads = 1024;
constexpr int kNoId = 0x7fffffff;

__device__ __forceinline__ float MinusInfinity() { return -__uint_as_float(0x7f800000u); }

// ---- draws ----

__device__ __forceinline__ bool Before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// -log(-log1p(-u)) for u = (r + 0.5) * 2^-32. Where u is near 1, 1 - u is formed exactly.
__device__ __forceinline__ float Gumbel(uint32_t r) {
  const float u = (static_cast<float>(r) + 0.5f) * 0x1p-32f;
  const float v = (static_cast<float>(~r) + 0.5f) * 0x1p-32f;  // 1 - u
  return -logf(r < 0x80000000u ? -log1pf(-u) : -logf(v));
}

__device__ __forceinline__ Scored WarpBest(Scored best) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Scored other = {__shfl_xor_sync(kFullMask, best.score, distance),
                          __shfl_xor_sync(kFullMask, best.id, distance)};
    if (Before(other, best)) best = other;
  }
  return best;
}

// A block has a slice of a row: grid [slices, rows]. partial: [rows, slices]
__global__ void DrawKernel(Scored* partial, const float* logits, const Draw* draws, int64_t v,
                           int32_t first_id) {
  const int64_t row = blockIdx.y;
  const Draw draw = draws[row];
  const bool greedy = isinf(draw.inverse_temperature);
  // Slices begin at a multiple of four ids, so that a thread's four share one Philox block.
  const int64_t lead = first_id % 4;
  const int64_t fours = (v + lead + 3) / 4;
  const int64_t begin = fours * blockIdx.x / gridDim.x, end = fours * (blockIdx.x + 1) / gridDim.x;
  Scored best = {MinusInfinity(), kNoId};
  for (int64_t four = begin + threadIdx.x; four < end; four += blockDim.x) {
    const int64_t i = four * 4 - lead;
    std::array<uint32_t, 4> r = {};
    if (!greedy) {
      r = Philox(draw.seed, {static_cast<uint32_t>((first_id + i) / 4), draw.token_index,
                             draw.choice, kDrawPurpose});
    }
    for (int j = 0; j < 4; ++j) {
      if (i + j < 0 || i + j >= v) continue;
      const float logit = logits[row * v + i + j];
      const float score =
          greedy ? logit
                 : __fmaf_rn(logit, draw.inverse_temperature, Gumbel(r[static_cast<size_t>(j)]));
      if (score > best.score) best = {score, static_cast<int32_t>(first_id + i + j)};
    }
  }
  Scored* shared = Shared<Scored>();
  best = WarpBest(best);
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  if (lane == 0) shared[warp] = best;
  __syncthreads();
  if (warp != 0) return;
  const int n_warps = static_cast<int>(blockDim.x) / kWarp;
  best = WarpBest(lane < n_warps ? shared[lane] : Scored{MinusInfinity(), kNoId});
  if (lane == 0) partial[row * gridDim.x + blockIdx.x] = best;
}

// One warp a row.
__global__ void DrawFromSlicesKernel(Scored* best, const Scored* partial, int n_slices,
                                     int32_t first_id) {
  const int64_t row = blockIdx.x;
  Scored mine = {MinusInfinity(), kNoId};
  for (int i = static_cast<int>(threadIdx.x); i < n_slices; i += kWarp) {
    if (Before(partial[row * n_slices + i], mine)) mine = partial[row * n_slices + i];
  }
  mine = WarpBest(mine);
  if (threadIdx.x == 0) best[row] = mine.id == kNoId ? Scored{MinusInfinity(), first_id} : mine;
}

// ---- masks ----

__global__ void BanKernel(float* logits, const int32_t* ids, int n, int64_t v, int64_t first_id) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const int64_t at = ids[i] - first_id;
  if (0 <= at && at < v) logits[at] = MinusInfinity();
}

__global__ void MaskAfterKernel(float* logits, int64_t v, Scored last, int64_t first_id) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= v) return;
  const bool stays = logits[i] > last.score || (logits[i] == last.score && first_id + i <= last.id);
  if (!stays) logits[i] = MinusInfinity();
}

// ---- the largest ----

// Orders as the float does; NaN as -inf, and -0 as 0.
__device__ __forceinline__ uint32_t Key(float x) {
  if (!(x > MinusInfinity())) x = MinusInfinity();
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

struct TopShared {
  int bins[256];
  int warp_ties[kTopThreads / kWarp];
  uint32_t prefix;  // of the m-th largest key, as far as it is known
  int wanted;       // how many of the keys with this prefix
  int n_above;      // keys written that are above it
};

// One block a row, m <= v: finds the m-th largest key byte by byte, then takes what is above it in
// any order and, of its equals, those with the smallest ids.
__global__ void __launch_bounds__(kTopThreads)
    TopKernel(Scored* top, const float* logits, int64_t v, int m, int32_t first_id) {
  TopShared& s = *Shared<TopShared>();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    s.prefix = 0;
    s.wanted = m;
    s.n_above = 0;
  }
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (thread < 256) s.bins[thread] = 0;
    __syncthreads();
    const uint32_t known = shift == 24 ? 0u : ~0u << (shift + 8);
    for (int64_t i = thread; i < v; i += kTopThreads) {
      const uint32_t key = Key(logits[i]);
      if ((key & known) == s.prefix) atomicAdd(&s.bins[key >> shift & 255u], 1);
    }
    __syncthreads();
    if (thread == 0) {
      int bin = 255;
      while (s.bins[bin] < s.wanted) s.wanted -= s.bins[bin--];
      s.prefix |= static_cast<uint32_t>(bin) << shift;
    }
    __syncthreads();
  }
  const uint32_t limit = s.prefix;
  const int n_ties = s.wanted;  // of its equals, to take
  int taken = 0;                // of them, in the tiles before
  for (int64_t tile = 0; tile < v; tile += kTopThreads) {
    const int64_t i = tile + thread;
    const uint32_t key = i < v ? Key(logits[i]) : 0;
    const bool tie = i < v && key == limit;
    const unsigned ties = __ballot_sync(kFullMask, tie);
    if (thread % kWarp == 0) s.warp_ties[thread / kWarp] = __popc(ties);
    __syncthreads();
    int before = taken, total = taken;
    for (int warp = 0; warp < kTopThreads / kWarp; ++warp) {
      if (warp < thread / kWarp) before += s.warp_ties[warp];
      total += s.warp_ties[warp];
    }
    before += __popc(ties & ((1u << (thread % kWarp)) - 1));
    int at = -1;
    if (i < v && key > limit) {
      at = atomicAdd(&s.n_above, 1);
    } else if (tie && before < n_ties) {
      at = m - n_ties + before;
    }
    if (at >= 0) {
      const float logit = logits[i];
      top[at] = {logit > MinusInfinity() ? logit : MinusInfinity(),
                 static_cast<int32_t>(first_id + i)};
    }
    taken = total;
    __syncthreads();
  }
}

// ---- sums of exponentials ----

// A block has a chunk.
__global__ void ExpSumsKernel(float* sums, const float* logits, ChunkBounds bounds, float max,
                              float inverse_temperature) {
  const int64_t begin = bounds.bounds[blockIdx.x], end = bounds.bounds[blockIdx.x + 1];
  float sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const float e = expf((logits[i] - max) * inverse_temperature);
    if (!isnan(e)) sum += e;
  }
  sum = BlockSum(sum, Shared<float>());
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

dim3 Blocks(int64_t n) { return {static_cast<unsigned>(DivideUp(n, kThreads)), 1, 1}; }

}  // namespace

void DrawBest(Scored* best, Scored* partial, Tensor logits, const Draw* draws, int64_t first_id,
              cudaStream_t stream) {
  const int64_t rows = logits.dim(0), v = logits.dim(1);
  Launch<DrawKernel>({dim3{kDrawSlices, static_cast<unsigned>(rows), 1}, dim3{kThreads, 1, 1},
                      kThreads / kWarp * sizeof(Scored), stream},
                     partial, static_cast<const float*>(logits.raw()), draws, v,
                     static_cast<int32_t>(first_id));
  Launch<DrawFromSlicesKernel>(
      {dim3{static_cast<unsigned>(rows), 1, 1}, dim3{kWarp, 1, 1}, 0, stream}, best,
      static_cast<const Scored*>(partial), kDrawSlices, static_cast<int32_t>(first_id));
}

void Ban(Tensor logits, const int32_t* ids, int n, int64_t first_id, cudaStream_t stream) {
  if (n == 0 || logits.empty()) return;
  Launch<BanKernel>({Blocks(n), dim3{kThreads, 1, 1}, 0, stream}, logits.f32(), ids, n,
                    logits.size(), first_id);
}

void MaskAfter(Tensor logits, Scored last, int64_t first_id, cudaStream_t stream) {
  if (logits.empty()) return;
  Launch<MaskAfterKernel>({Blocks(logits.size()), dim3{kThreads, 1, 1}, 0, stream}, logits.f32(),
                          logits.size(), last, first_id);
}

void TopUnsorted(Scored* top, int m, Tensor logits, int64_t first_id, cudaStream_t stream) {
  CHECK(0 < m && m <= logits.size());
  Launch<TopKernel>({dim3{1, 1, 1}, dim3{kTopThreads, 1, 1}, sizeof(TopShared), stream}, top,
                    static_cast<const float*>(logits.raw()), logits.size(), m,
                    static_cast<int32_t>(first_id));
}

void ExpSums(float* sums, Tensor logits, const ChunkBounds& bounds, float max,
             float inverse_temperature, cudaStream_t stream) {
  if (bounds.n == 0) return;
  Launch<ExpSumsKernel>({dim3{static_cast<unsigned>(bounds.n), 1, 1}, dim3{kThreads, 1, 1},
                         kThreads / kWarp * sizeof(float), stream},
                        sums, static_cast<const float*>(logits.raw()), bounds, max,
                        inverse_temperature);
}

}  // namespace trireme::cuda
