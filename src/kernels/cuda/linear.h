// Linear: our GEMV for a few rows, cuBLASLt for more; or one exact GEMM for all.
#pragma once

#include <optional>

#include "kernels/cuda/gemm_exact.h"
#include "kernels/cuda/gemm_lt.h"

namespace trireme::cuda {

// The most rows that the GEMV takes. To be set from a measurement of both: up to 8 rows the GEMV
// reads the weight once.
constexpr int64_t kMostGemvRows = 8;

class LinearDriver {
 public:
  LinearDriver(cudaStream_t stream, const GemmLt::Options& options);
  LinearDriver(cudaStream_t stream, const ExactGemm::Options& options);

  // As Ops::Linear.
  void Run(Tensor y, Tensor x, const CudaWeight& w);

 private:
  cudaStream_t stream_;
  std::optional<GemmLt> fast_;  // one of the two
  std::optional<ExactGemm> exact_;
};

}  // namespace trireme::cuda
