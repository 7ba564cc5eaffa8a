#include "launcher/rank.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "launcher/child_process.h"

namespace trireme {

absl::StatusOr<std::unique_ptr<World>> JoinWorld() {
  // Slurm ends the processes of a step itself, and their parent may be gone by design.
  if (getenv("OMPI_COMM_WORLD_RANK")) DieWithParent();
  if (!LaunchedByMpi()) return MakeSingleWorld();
  return MakeMpiWorld();
}

ReplicaProgress ProgressBar() {
  if (!isatty(STDERR_FILENO)) return {};
  return [last = -1](int64_t bytes, int64_t total) mutable {
    constexpr int kWidth = 40;
    const int percent = total > 0 ? static_cast<int>(100.0 * bytes / total) : 100;
    if (percent == last) return;
    last = percent;
    const int filled = kWidth * percent / 100;
    std::fprintf(stderr, "\rloading [%.*s%*s] %3d%% of %.2f GB", filled,
                 "========================================", kWidth - filled, "", percent,
                 total / 1e9);
    if (percent >= 100) std::fprintf(stderr, "\r\033[K");  // gone: what follows begins on its line
  };
}

}  // namespace trireme
