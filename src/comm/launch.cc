#include "comm/launch.h"

#include <cstdlib>

#include "base/str.h"
#include "comm/world.h"

namespace trireme {
namespace {

using Environment = std::function<const char*(const char*)>;

struct Place {
  int n_ranks = 1;
  int rank = 0;
};

int Read(const Environment& env, const char* name, int otherwise) {
  const char* value = env(name);
  int n = 0;
  return value != nullptr && ParseNumber(value, &n) ? n : otherwise;
}

Place FindPlace(const Environment& env) {
  // SLURM_NTASKS is also set in a batch script, which is no rank: only a step's own count counts.
  // Inside mpirun under Slurm the step is mpirun's daemons, so MPI's own variables go first.
  constexpr const char* kSizeAndRank[][2] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                             {"PMI_SIZE", "PMI_RANK"},
                                             {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};
  for (const auto& [size, rank] : kSizeAndRank) {
    const int n_ranks = Read(env, size, 0);
    if (n_ranks > 0) return {n_ranks, Read(env, rank, 0)};
  }
  return {};
}

const char* OfThisProcess(const char* name) { return std::getenv(name); }

}  // namespace

int LaunchedRanks(const Environment& env) { return FindPlace(env).n_ranks; }
int LaunchedRanks() { return LaunchedRanks(OfThisProcess); }

int LaunchedRank(const Environment& env) { return FindPlace(env).rank; }
int LaunchedRank() { return LaunchedRank(OfThisProcess); }

bool LaunchedByMpi() { return LaunchedRanks() > 1; }

}  // namespace trireme
