// The verbs over logits as launches: what kernels/ops.h says, on device memory and a stream.
// Nothing waits; results stay on the device.
#pragma once

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace trireme::cuda {

// Blocks that share a row of logits in a draw.
constexpr int kDrawSlices = 16;

// As Ops says, draws and lasts on the device; lasts may be null.
//   best: [S]   partial: [S, kDrawSlices], overwritten   logits: [S,V]   draws, lasts: [S]
void DrawBest(Scored* best, Scored* partial, Tensor logits, const Draw* draws, const Scored* lasts,
              int64_t first_id, cudaStream_t stream);

//   ids: [S]   best: [n_shards,S]
void PickWinners(Tensor ids, const Scored* best, int n_shards, cudaStream_t stream);

void Feed(Tensor ids, Tensor drawn, cudaStream_t stream);

//   logits: [S,V]   edits: [n] on the device
void EditLogits(Tensor logits, const LogitEdit* edits, int n, int64_t first_id,
                cudaStream_t stream);

// Where each shard's ids begin, and the end, by value into the kernel.
constexpr int kMostShards = 256;
struct ShardFirsts {
  int32_t firsts[kMostShards + 1];
  int n = 0;
};
// As Ops says; filters: [F] on the device.
void FindCutoffs(Scored* lasts, Tensor logits, const ShardFirsts& shards, const Filter* filters,
                 int n_filters, cudaStream_t stream);
// Likewise; rows: [F] on the device.
void Logprobs(Scored* logprobs, Tensor logits, const ShardFirsts& shards, const int32_t* drawn,
              const LogprobRow* rows, int n_rows, cudaStream_t stream);

}  // namespace trireme::cuda
