// Linear: our GEMV for a few rows, cuBLASLt for more.
#pragma once

#include "kernels/cuda/gemm_lt.h"

namespace trireme::cuda {

// The most rows that the GEMV takes. To be set from a measurement of both: up to 8 rows the GEMV
// reads the weight once.
constexpr int64_t kMostGemvRows = 8;

class LinearDriver {
 public:
  explicit LinearDriver(cudaStream_t stream, const GemmLt::Options& options = {})
      : stream_(stream), gemm_(stream, options) {}

  // As Ops::Linear.
  void Run(Tensor y, Tensor x, const CudaWeight& w);

 private:
  cudaStream_t stream_;
  GemmLt gemm_;
};

}  // namespace trireme::cuda
