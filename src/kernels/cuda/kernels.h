// The CUDA verbs as launches: what kernels/ops.h says, on device memory and a stream. Nothing
// waits.
#pragma once

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace trireme::cuda {

// Partial sums that SumParts adds, by value into the kernel.
constexpr int kMostParts = 256;
struct PartList {
  const float* parts[kMostParts];
  uint8_t merges[kMostParts];
  int n = 0;
};

void RmsNorm(Tensor y, Tensor x, Tensor w, float eps, cudaStream_t stream);
void AddRmsNorm(Tensor y, Tensor r, Tensor x, Tensor w, float eps, cudaStream_t stream);
void Add(Tensor r, Tensor x, cudaStream_t stream);
void GatedSilu(Tensor y, Tensor x, cudaStream_t stream);
void GatherRows(Tensor y, Tensor x, Tensor rows, cudaStream_t stream);
void Dropout(Tensor x, const DropoutRow* rows, int32_t site, cudaStream_t stream);
void SumParts(Tensor y, const PartList& parts, const float* bias, cudaStream_t stream);
//   w: [V,H] as stored
void Embed(Tensor y, Tensor ids, Tensor w, int64_t first_row, cudaStream_t stream);

}  // namespace trireme::cuda
