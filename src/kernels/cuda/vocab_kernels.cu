// Verbs over rows of logits: edits, draws and their winners.
#include <algorithm>

#include "kernels/cuda/vocab_row.cuh"
#include "kernels/philox.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

// ---- draws ----

// -log(-log1p(-u)) for u = (r + 0.5) * 2^-32. Where u is near 1, 1 - u is formed exactly.
__device__ __forceinline__ float Gumbel(uint32_t r) {
  const float u = (static_cast<float>(r) + 0.5f) * 0x1p-32f;
  const float v = (static_cast<float>(~r) + 0.5f) * 0x1p-32f;  // 1 - u
  return -logf(r < 0x80000000u ? -log1pf(-u) : -logf(v));
}

// A block has a slice of a row: grid [slices, rows]. partial: [rows, slices]
__global__ void DrawKernel(Scored* partial, const float* logits, const Draw* draws,
                           const Scored* lasts, int64_t v, int32_t first_id) {
  const int64_t row = blockIdx.y;
  const Draw draw = draws[row];
  const Scored last = lasts == nullptr ? Scored{0, -1} : lasts[row];
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
      const auto id = static_cast<int32_t>(first_id + i + j);
      if (last.id >= 0 && Before(last, {logit, id})) continue;
      const float score =
          greedy ? logit
                 : __fmaf_rn(logit, draw.inverse_temperature, Gumbel(r[static_cast<size_t>(j)]));
      if (score > best.score) best = {score, id};
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
__global__ void DrawFromSlicesKernel(Scored* best, const Scored* partial, int n_slices, int64_t v,
                                     int32_t first_id) {
  const int64_t row = blockIdx.x;
  Scored mine = {MinusInfinity(), kNoId};
  for (int i = static_cast<int>(threadIdx.x); i < n_slices; i += kWarp) {
    if (Before(partial[row * n_slices + i], mine)) mine = partial[row * n_slices + i];
  }
  mine = WarpBest(mine);
  if (threadIdx.x != 0) return;
  if (mine.id == kNoId) mine = {MinusInfinity(), v == 0 ? -1 : first_id};
  best[row] = mine;
}

// ---- winners ----

__global__ void PickWinnersKernel(int32_t* ids, const Scored* best, int n_shards, int64_t n_rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= n_rows) return;
  Scored winner = {0, -1};
  for (int shard = 0; shard < n_shards; ++shard) {
    const Scored other = best[shard * n_rows + row];
    if (other.id >= 0 && (winner.id < 0 || Before(other, winner))) winner = other;
  }
  ids[row] = winner.id;
}

__global__ void FeedKernel(int32_t* ids, const int32_t* drawn, int64_t n) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t < n && ids[t] < 0) ids[t] = drawn[~ids[t]];
}

// ---- edits ----

__global__ void EditKernel(float* logits, const LogitEdit* edits, int n, int64_t v,
                           int64_t first_id) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const LogitEdit edit = edits[i];
  const int64_t at = edit.id - first_id;
  if (at < 0 || at >= v) return;
  float& logit = logits[edit.row * v + at];
  logit = Edited(logit, edit);
}

dim3 Blocks(int64_t n) { return {static_cast<unsigned>(DivideUp(n, kThreads)), 1, 1}; }

}  // namespace

void DrawBest(Scored* best, Scored* partial, Tensor logits, const Draw* draws, const Scored* lasts,
              int64_t first_id, cudaStream_t stream) {
  const int64_t rows = logits.dim(0), v = logits.dim(1);
  if (rows == 0) return;
  Launch<DrawKernel>({dim3{kDrawSlices, static_cast<unsigned>(rows), 1}, dim3{kThreads, 1, 1},
                      kThreads / kWarp * sizeof(Scored), stream},
                     partial, static_cast<const float*>(logits.raw()), draws, lasts, v,
                     static_cast<int32_t>(first_id));
  Launch<DrawFromSlicesKernel>(
      {dim3{static_cast<unsigned>(rows), 1, 1}, dim3{kWarp, 1, 1}, 0, stream}, best,
      static_cast<const Scored*>(partial), kDrawSlices, v, static_cast<int32_t>(first_id));
}

void PickWinners(Tensor ids, const Scored* best, int n_shards, cudaStream_t stream) {
  if (ids.empty()) return;
  Launch<PickWinnersKernel>({Blocks(ids.size()), dim3{kThreads, 1, 1}, 0, stream}, ids.i32(), best,
                            n_shards, ids.size());
}

void Feed(Tensor ids, Tensor drawn, cudaStream_t stream) {
  if (ids.empty()) return;
  Launch<FeedKernel>({Blocks(ids.size()), dim3{kThreads, 1, 1}, 0, stream}, ids.i32(),
                     static_cast<const int32_t*>(drawn.raw()), ids.size());
}

void EditLogits(Tensor logits, const LogitEdit* edits, int n, int64_t first_id,
                cudaStream_t stream) {
  Launch<EditKernel>({Blocks(n), dim3{kThreads, 1, 1}, 0, stream}, logits.f32(), edits, n,
                     logits.dim(1), first_id);
}

}  // namespace trireme::cuda
