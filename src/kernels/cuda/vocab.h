// The verbs over logits as launches: what kernels/ops.h says, on device memory and a stream.
// Nothing waits; results stay on the device.
#pragma once

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace trireme::cuda {

// Blocks that share a row of logits in a draw.
constexpr int kDrawSlices = 16;

// best[i] as SampleArgmax says, for V > 0.
//   partial: [S, kDrawSlices], overwritten   logits: [S,V]   draws: [S] on the device
void DrawBest(Scored* best, Scored* partial, Tensor logits, const Draw* draws, int64_t first_id,
              cudaStream_t stream);

//   logits: [V]   ids: [n] on the device
void Ban(Tensor logits, const int32_t* ids, int n, int64_t first_id, cudaStream_t stream);
void MaskAfter(Tensor logits, Scored last, int64_t first_id, cudaStream_t stream);

// The m largest of [V] logits, 0 < m <= V, as TopLogits says but in no order.
void TopUnsorted(Scored* top, int m, Tensor logits, int64_t first_id, cudaStream_t stream);

// Cuts of [V] logits into chunks, by value into the kernel.
constexpr int kMostChunks = 64;
struct ChunkBounds {
  int64_t bounds[kMostChunks + 1];
  int n = 0;
};
//   sums: [n]
void ExpSums(float* sums, Tensor logits, const ChunkBounds& bounds, float max,
             float inverse_temperature, cudaStream_t stream);

}  // namespace trireme::cuda
