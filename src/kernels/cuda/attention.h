// Rotary positions, KV pages and paged attention as launches: what kernels/ops.h says, on device
// memory and a stream. Pages are [n_blocks,K,B,D], keys and values alike. Nothing waits.
#pragma once

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace trireme::cuda {

// What the host knows of a step whose AttentionPlan lies in device memory: launches are sized by
// it. Upper bounds will do: a graph captured for the largest step serves the smaller ones, whose
// plan has sequences without rows at its end.
struct AttentionShape {
  int64_t n_sequences = 0;  // of the plan's tensors
  int64_t n_tokens = 0;     // rows of all sequences
  int64_t max_rows = 0;     // of one sequence
  int64_t max_kv_len = 0;   // of one sequence
};

void RopeStoreKv(Tensor q, KvLayer kv, Tensor qkv, Tensor cos, Tensor sin, Tensor slots,
                 const HeadMap& heads, cudaStream_t stream);

// What Attention needs of device memory for this step and every smaller one; d is the head size.
size_t AttentionWorkspaceBytes(const AttentionShape& largest, const HeadMap& heads, int64_t d);

// How a row's result is computed.
enum class AttentionPath {
  kFast,   // sequences of one row by splits of their keys, the others by tiles of rows
  kExact,  // all by tiles: a row has the same bits however its sequence was cut into steps
};

// Head sizes: HasCudaHead's. Query heads of one KV head share the loads of its pages.
//   workspace: AttentionWorkspaceBytes, aligned to 16 bytes; nothing is kept in it between calls
void Attention(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan,
               const AttentionShape& shape, float scale, const HeadMap& heads, void* workspace,
               cudaStream_t stream, AttentionPath path = AttentionPath::kFast);

}  // namespace trireme::cuda
