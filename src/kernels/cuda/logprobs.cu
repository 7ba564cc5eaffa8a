// log p of an id and of the most probable ones, in the softmax of a row. A block has a row, and
// reads it once for each of the most probable ids.
#include <cmath>

#include "kernels/cuda/vocab_row.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 1024;

struct LogprobShared {
  Scored best[kThreads / kWarp];
  Scored found[kLogprobs];  // logits
  Mass total;
};

// The first id after `last`, in every thread.
__device__ Scored NextBest(const VocabRow& row, Scored last, Scored* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  Scored best = {MinusInfinity(), kNoId};
  row.Each([&](float x, int id) {
    if (Before(last, {x, id}) && Before({x, id}, best)) best = {x, id};
  });
  best = WarpBest(best);
  __syncthreads();  // the last call's are read
  if (lane == 0) shared[warp] = best;
  __syncthreads();
  return WarpBest(shared[lane]);
}

// One block a row.
__global__ void __launch_bounds__(kThreads)
    LogprobKernel(Scored* logprobs, const float* logits, int64_t shard_stride, int64_t row_stride,
                  const __grid_constant__ ShardFirsts shards, const int32_t* drawn,
                  const LogprobRow* rows) {
  LogprobShared& s = *Shared<LogprobShared>();
  const int thread = static_cast<int>(threadIdx.x);
  const LogprobRow wanted = rows[blockIdx.x];
  const int wanted_id = wanted.id >= 0 ? wanted.id : drawn[wanted.row];
  VocabRow row = {logits + blockIdx.x * row_stride, shard_stride, &shards, 0, 1};
  if (thread < kLogprobs) s.found[thread] = {MinusInfinity(), -1};
  if (thread == 0) s.total = 0;
  Scored next = NextBest(row, {-MinusInfinity(), -1}, s.best);
  row.max = next.score;
  for (int i = 1; i <= wanted.n_top && next.id != kNoId; ++i) {
    if (thread == 0) s.found[i] = next;
    next = NextBest(row, next, s.best);
  }
  Mass mine = 0;
  row.Each([&](float x, int id) {
    mine += row.MassOf(x);
    if (id == wanted_id) s.found[0] = {x, id};
  });
  atomicAdd(&s.total, mine);
  __syncthreads();
  if (thread >= kLogprobs) return;
  const double log_total = log(static_cast<double>(s.total) / static_cast<double>(kWholeMass));
  const Scored found = s.found[thread];
  logprobs[static_cast<int64_t>(blockIdx.x) * kLogprobs + thread] = {
      LogprobOf(found.score, row.max, log_total), found.id};
}

}  // namespace

void Logprobs(Scored* logprobs, Tensor logits, const ShardFirsts& shards, const int32_t* drawn,
              const LogprobRow* rows, int n_rows, cudaStream_t stream) {
  if (n_rows == 0) return;
  const int64_t width = logits.dim(2);
  Launch<LogprobKernel>({dim3{static_cast<unsigned>(n_rows), 1, 1}, dim3{kThreads, 1, 1},
                         sizeof(LogprobShared), stream},
                        logprobs, static_cast<const float*>(logits.raw()), logits.dim(1) * width,
                        width, shards, drawn, rows);
}

}  // namespace trireme::cuda
