// One rank of a job in which NCCL or a peer fails, for nccl_faults_test: ten AllReduces, of which
// rank 1 does not come to the third (absent), comes with another size (mismatch), or ends (exit).
#include <unistd.h>

#include <string_view>

#include "tests/comm/nccl_ranks.h"

namespace trireme {
namespace {

int Run(std::string_view what) {
  auto world = MakeMpiWorld();
  CHECK(world.ok()) << Message(world.status());
  WorldOptions options = TestOptions();
  options.timeout = std::chrono::milliseconds(2000);
  (*world)->Reserve(options);
  NcclRank rank(**world, false);
  GroupSum sum;
  sum.n_parts.assign(static_cast<size_t>((*world)->size()), 1);
  sum.merges.assign(sum.n_parts.size(), 1);
  sum.merges[0] = 0;
  const Buffer y = rank.ops().Allocate(1024);
  for (int i = 1; i <= 10; ++i) {
    const bool errs = i == 3 && (*world)->rank() == 1;
    if (errs && what == "absent") pause();
    if (errs && what == "exit") _exit(0);
    const int64_t n = errs && what == "mismatch" ? 8 : 16;
    rank.comm().AllReduce(Tensor(y.data(), DType::kF32, {1, n}), rank.comm().Parts(1, 1, n), sum,
                          nullptr);
    rank.ops().Synchronize();
  }
  return 0;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) { return trireme::Run(argc > 1 ? argv[1] : ""); }
