#include "kernels/cuda/linear.h"

#include <algorithm>

#include "kernels/cuda/kernels.h"

namespace trireme::cuda {

LinearDriver::LinearDriver(cudaStream_t stream, const GemmLt::Options& options) : stream_(stream) {
  fast_.emplace(stream, options);
}

LinearDriver::LinearDriver(cudaStream_t stream, const ExactGemm::Options& options)
    : stream_(stream) {
  exact_.emplace(stream, options);
}

void LinearDriver::Run(Tensor y, Tensor x, const CudaWeight& w) {
  const int64_t rows = x.dim(0);
  CHECK_EQ(x.dim(1), w.n_in());
  CHECK_EQ(y.size(), w.n_parts() * rows * w.n_out());
  CHECK(w.n_parts() == 1 || (y.rank() == 3 && y.dtype() == DType::kF32));
  if (y.empty()) return;
  if (exact_) return exact_->Run(y, x, w);
  // A part without columns is no matrix to cuBLASLt.
  const std::vector<int64_t>& bounds = w.part_bounds();
  const bool empty_part = std::adjacent_find(bounds.begin(), bounds.end()) != bounds.end();
  if (rows <= kMostGemvRows || empty_part || !fast_->Run(y, x, w)) Gemv(y, x, w, stream_);
}

}  // namespace trireme::cuda
