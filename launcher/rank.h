// What every process that is a rank of a model does first.
#pragma once

#include <memory>

#include "comm/world.h"
#include "runtime/replica_rank.h"

namespace trireme {

// Joins the ranks that mpirun or srun started, or is the only one. The process ends with its
// mpirun.
absl::StatusOr<std::unique_ptr<World>> JoinWorld();

// Loads this rank of the model. Where stderr is a terminal, rank 0 draws a bar there meanwhile.
absl::StatusOr<std::unique_ptr<ReplicaRank>> LoadRank(const ReplicaOptions& options, World& world);

}  // namespace trireme
