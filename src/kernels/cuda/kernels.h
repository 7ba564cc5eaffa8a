// The CUDA verbs as launches: what kernels/ops.h says, on device memory and a stream. Nothing
// waits.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/weight.h"
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
//   b: float32 or empty
void LayerNorm(Tensor y, Tensor x, Tensor w, Tensor b, float eps, cudaStream_t stream);
void AddLayerNorm(Tensor y, Tensor r, Tensor x, Tensor w, Tensor b, float eps, cudaStream_t stream);
void GatedAct(Tensor y, Tensor x, Activation act, cudaStream_t stream);
void Act(Tensor y, Tensor x, Activation act, cudaStream_t stream);
void GatherRows(Tensor y, Tensor x, Tensor rows, cudaStream_t stream);
void Dropout(Tensor x, const DropoutRow* rows, int32_t site, cudaStream_t stream);
void SumParts(Tensor y, const PartList& parts, const float* bias, cudaStream_t stream);
//   w: [V,H] as CudaWeight holds it: rows may be longer
void Embed(Tensor y, Tensor ids, Tensor w, int64_t first_row, cudaStream_t stream);

// ---- Linear ----

// As Ops::Linear, for any number of rows: each kGemvRows of them read the whole weight. A row's
// result does not depend on how many there are.
constexpr int kGemvRows = 8;
void Gemv(Tensor y, Tensor x, const CudaWeight& w, cudaStream_t stream);

// x as n terms of a narrower (or wider) type that add up to it: what a GEMM of that type needs.
// Where that is f16, row t is divided by a power of two, scales[t], first, so that nothing
// overflows; otherwise scales is not used.
//   x: [T,n]   terms: [n_terms,T,stride], columns past n are 0   scales: [T]
void CutIntoTerms(Tensor terms, float* scales, Tensor x, cudaStream_t stream);

// y[t] = sums[t] * scales[t] + bias, scales and bias where not null.
//   y, sums: [T,n]; sums may be y
void FinishSums(Tensor y, const float* sums, const float* scales, const float* bias,
                cudaStream_t stream);

}  // namespace trireme::cuda
