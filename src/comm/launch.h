// What the environment says about how this process was started.
#pragma once

#include <functional>
#include <string>

namespace trireme {

// Ranks of the job that mpirun or srun started this process in; 1 if neither did. `env` looks a
// variable up, null if it is not set.
int LaunchedRanks(const std::function<const char*(const char*)>& env);
int LaunchedRanks();  // of this process

// Its number among them, before MPI says it; 0 if it is alone.
int LaunchedRank(const std::function<const char*(const char*)>& env);
int LaunchedRank();

}  // namespace trireme
