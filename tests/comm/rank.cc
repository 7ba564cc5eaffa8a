// One rank of a job in which something goes wrong, for lost_peer_test; or that idles.
//   comm_rank exit | stall shared | stall mpi | count | idle SECONDS
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "base/check.h"
#include "tests/comm/ranks.h"

namespace trireme {
namespace {

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](timeval t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::unique_ptr<Communicator> WholeGroup(World& world, Ops& ops, bool shared_memory) {
  WorldOptions options = TestOptions();
  options.timeout = options.stage_timeout = std::chrono::milliseconds(200);
  options.shared_memory = shared_memory;
  world.Reserve(options);
  std::vector<int> all;
  for (int i = 0; i < world.size(); ++i) all.push_back(i);
  return world.Group(all, ops);
}

// Rank 1 does not come to the collective that all others call.
int LoseRank1(World& world, std::string_view how, bool shared_memory) {
  const auto ops = MakeSumOps();
  const auto comm = WholeGroup(world, *ops, shared_memory);
  if (world.rank() == 1) {
    if (how == "exit") _exit(0);
    for (;;) pause();
  }
  GroupSum sum;  // one part of each rank, added from the left
  sum.n_parts.assign(static_cast<size_t>(world.size()), 1);
  sum.merges.assign(static_cast<size_t>(world.size()), 1);
  sum.merges[0] = 0;
  float y = 0;
  comm->AllReduce(Tensor(&y, DType::kF32, {1, 1}), comm->Parts(1, 1, 1), sum, nullptr);
  return 0;
}

// Prints the share of a core that this rank uses while nothing happens, and how fast it wakes.
int Idle(World& world, int seconds) {
  world.Reserve(TestOptions());
  world.Exchange("");
  const double before = CpuSeconds();
  const auto start = std::chrono::steady_clock::now();
  if (world.rank() == 0) {
    world.Wait(start + std::chrono::seconds(seconds), false);
    const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
    world.Publish(std::as_bytes(std::span(&now, 1)));
  } else {
    const auto sent = world.NextPublished();
    const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
    int64_t then = 0;
    std::memcpy(&then, sent.data(), sizeof(then));
    std::printf("rank %d: first message after idling came in %.1f us\n", world.rank(),
                1e-3 * static_cast<double>(now - then));
  }
  std::printf("rank %d: %.3f%% of a core\n", world.rank(), 100 * (CpuSeconds() - before) / seconds);
  return 0;
}

int Run(int argc, char** argv) {
  CHECK_GT(argc, 1);
  const std::string_view what = argv[1];
  if (what == "count") setenv("OMPI_COMM_WORLD_SIZE", "8", 1);
  auto world = MakeMpiWorld();
  if (!world.ok()) {
    std::printf("%s\n", Message(world.status()).c_str());
    return what == "count" ? 0 : 1;
  }
  if (what == "idle") return Idle(**world, std::atoi(argv[2]));
  return LoseRank1(**world, what, argc < 3 || std::string_view(argv[2]) == "shared");
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) { return trireme::Run(argc, argv); }
