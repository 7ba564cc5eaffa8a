#include "launcher/rank.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "launcher/child_process.h"

namespace trireme {
namespace {

void DrawBar(int64_t bytes, int64_t total) {
  constexpr int kWidth = 40;
  const double share = static_cast<double>(bytes) / static_cast<double>(total);
  const int filled = static_cast<int>(kWidth * share);
  const bool large = total >= 1'000'000'000;
  std::fprintf(stderr, "\rloading [%.*s%*s] %3.0f%% of %.1f %s", filled,
               "========================================", kWidth - filled, "", 100 * share,
               static_cast<double>(total) / (large ? 1e9 : 1e6), large ? "GB" : "MB");
}

}  // namespace

absl::StatusOr<std::unique_ptr<World>> JoinWorld() {
  // Slurm ends the processes of a step itself, and their parent may be gone by design.
  if (getenv("OMPI_COMM_WORLD_RANK")) DieWithParent();
  absl::StatusOr<std::unique_ptr<World>> world = MakeSingleWorld();
  if (LaunchedByMpi()) world = MakeMpiWorld();
  TellOfCrashes();  // after MPI, which has handlers of its own
  return world;
}

absl::StatusOr<std::unique_ptr<ReplicaRank>> LoadRank(const ReplicaOptions& options, World& world) {
  if (world.rank() != 0 || !isatty(STDERR_FILENO)) return ReplicaRank::Load(options, world);
  auto rank = ReplicaRank::Load(options, world, DrawBar);
  std::fprintf(stderr, "\r\033[K");  // gone: what follows begins on its line
  return rank;
}

}  // namespace trireme
