// How long the ranks of a world take to exchange tensors, beside MPI_Allreduce in the same run.
#pragma once

#include <iosfwd>
#include <string>

#include "base/status.h"
#include "comm/world.h"
#include "kernels/ops.h"

namespace trireme {

struct CommBenchOptions {
  int rounds = 100;           // every case once a round, so that a neighbour hits all alike
  bool shared_memory = true;  // false: through MPI inside a host, too
  std::string json;           // also write the figures to this file
};

// Collective; the world must not be reserved yet. Rank 0 prints one line per verb and size: the
// best and the median time of the rounds. Each rank writes its data anew before each call, as a
// matmul does, and that is part of the time: otherwise the peers' caches still hold the data.
absl::Status RunCommBench(World& world, Ops& ops, const CommBenchOptions& options,
                          std::ostream& out);

}  // namespace trireme
