// What every process that is a rank of a model does first.
#pragma once

#include <memory>

#include "comm/world.h"
#include "runtime/replica_rank.h"

namespace trireme {

// Joins the ranks that mpirun or srun started, or is the only one. The process ends with its
// mpirun.
absl::StatusOr<std::unique_ptr<World>> JoinWorld();

// Draws a bar on stderr while weights load; nothing where stderr is no terminal.
ReplicaProgress ProgressBar();

}  // namespace trireme
