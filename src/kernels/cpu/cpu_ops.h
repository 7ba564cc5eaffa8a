// The CPU backend: Highway kernels on a pinned thread pool; one object per rank, whose verbs one
// thread calls, the one that made it (it works as the pool's first).
//
// Weights are packed so that a SIMD lane is an output (packed_weight.h). 16 virtual lanes
// everywhere: AVX2 and AVX-512, any number of threads and any tile of rows give the same bits.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace trireme {

struct CpuOptions {
  int n_threads = 1;
  std::vector<int> cpus;  // one per thread to pin to; empty: not pinned
  // The most rows that Linear will see: its memory is sized when a weight is packed. More is
  // possible but allocates.
  int64_t max_rows = 1;
  bool avx512 = true;  // false: AVX2 even where AVX-512 is there (the bits are the same)
};

// FAILED_PRECONDITION where the machine has no AVX2 with FMA.
absl::StatusOr<std::unique_ptr<Ops>> MakeCpuOps(const CpuOptions& options);

// The instruction set that MakeCpuOps chooses: "AVX-512" or "AVX2".
std::string CpuTargetName(bool avx512);

}  // namespace trireme
