#include "comm/launch.h"

#include <cstdlib>

#include "base/str.h"
#include "comm/world.h"

namespace trireme {

int LaunchedRanks(const std::function<const char*(const char*)>& env) {
  // SLURM_NTASKS is also set in a batch script, which is no rank: only a step's own count counts.
  // Inside mpirun under Slurm the step is mpirun's daemons, so MPI's own variables go first.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* value = env(name);
    int n = 0;
    if (value != nullptr && ParseNumber(std::string_view(value), &n) && n > 0) return n;
  }
  return 1;
}

int LaunchedRanks() {
  return LaunchedRanks([](const char* name) -> const char* { return std::getenv(name); });
}

bool LaunchedByMpi() { return LaunchedRanks() > 1; }

}  // namespace trireme
