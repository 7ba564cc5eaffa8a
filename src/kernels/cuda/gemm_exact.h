// Linear in one arithmetic for every number of rows: an output's bits depend on its rows of x and W
// and on the cuts of their columns into chunks alone. The other rows, the tile that it is computed
// in and the chunks that other ranks hold do not touch them.
#pragma once

#include "kernels/cuda/weight.h"

namespace trireme::cuda {

class ExactGemm {
 public:
  struct Options {
    int64_t max_rows = 1;                     // of x: more are possible, but allocate
    size_t scratch_bytes = size_t{64} << 20;  // at most: terms and chunks' sums of a slice of rows
  };
  ExactGemm(cudaStream_t stream, const Options& options);

  // As Ops::Linear; at most kMostExactChunks chunks.
  void Run(Tensor y, Tensor x, const CudaWeight& w);

 private:
  void RunSlice(Tensor y, Tensor x, const CudaWeight& w, int64_t first, int64_t n_rows);

  cudaStream_t stream_;
  Options options_;
  Buffer scratch_;
};

constexpr int kMostExactChunks = 256;

}  // namespace trireme::cuda
