#include "kernels/cuda/linear.h"

#include <algorithm>

#include "kernels/cuda/kernels.h"

namespace trireme::cuda {

void LinearDriver::Run(Tensor y, Tensor x, const CudaWeight& w) {
  const int64_t rows = x.dim(0);
  CHECK_EQ(x.dim(1), w.n_in());
  CHECK_EQ(y.size(), w.n_parts() * rows * w.n_out());
  CHECK(w.n_parts() == 1 || (y.rank() == 3 && y.dtype() == DType::kF32));
  if (y.empty()) return;
  // A part without columns is no matrix to cuBLASLt.
  const std::vector<int64_t>& bounds = w.part_bounds();
  const bool empty_part = std::adjacent_find(bounds.begin(), bounds.end()) != bounds.end();
  if (rows <= kMostGemvRows || empty_part || !gemm_.Run(y, x, w)) Gemv(y, x, w, stream_);
}

}  // namespace trireme::cuda
