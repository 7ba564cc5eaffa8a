// How fast each kernel runs here, beside the read bandwidth and the FMA peak of the same run.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/dtype.h"

namespace trireme {

struct KernelsBenchOptions {
  int n_threads = 2;
  std::vector<int> cpus;  // one per thread to pin to; empty: not pinned
  bool avx512 = true;     // false: AVX2
  DType weights = DType::kBF16;
  DType activations = DType::kF32;
  std::vector<int> rows = {1, 4, 16, 64, 512};  // T
  int rounds = 5;    // every case once a round, so that a neighbour hits all alike
  std::string only;  // cases whose name contains this; empty: all
  std::string json;  // also write the figures to this file
};

// Prints one line per kernel and shape (TinyLlama 1.1B's), medians over the rounds: the time, GB/s,
// GFLOP/s, and the share of the bound, max(bytes / bandwidth, FLOP / peak), as probed just before
// and after. Bytes are those that a call has to move: weights and pages once, activations in and
// out.
absl::Status RunKernelsBench(const KernelsBenchOptions& options, std::ostream& out);

}  // namespace trireme
