// How long the ranks of a world take to exchange tensors, beside MPI_Allreduce in the same run.
#pragma once

#include <iosfwd>
#include <string>

#include "base/status.h"
#include "comm/world.h"
#include "kernels/ops.h"

namespace trireme {

struct CommBenchOptions {
  int rounds = 100;             // every case once a round, so that a neighbour hits all alike
  int64_t max_bytes = 1 << 20;  // of the largest tensor
  bool shared_memory = true;    // false: through MPI inside a host, too
  std::string json;             // also write the figures to this file
};

// Collective; the world must not be reserved yet. `device`: null, or the verbs of this rank's CUDA
// device; its tensors are then exchanged by way of the host and, where it can be, by NCCL.
//
// Rank 0 prints a table for each communicator, one line per verb and size: the best and the median
// time of the rounds, and of the median algorithm and bus bandwidth as nccl-tests define them. In
// host memory each rank writes its data anew before each call, as a matmul does, and that is part
// of the time: otherwise the peers' caches still hold the data.
absl::Status RunCommBench(World& world, Ops& host, Ops* device, const CommBenchOptions& options,
                          std::ostream& out);

}  // namespace trireme
