// A rank with an emulated device, its NCCL group of the whole world, and the same on the host.
#pragma once

#include <memory>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "comm/nccl_communicator.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/comm/ranks.h"

namespace trireme {

class NcclRank {
 public:
  // The world has been reserved.
  NcclRank(World& world, bool exact) : host_ops_(MakeSumOps()) {
    auto ops = MakeCudaOps(
        {.device = world.local_rank(), .n_loading_threads = 1, .timeout = world.options().timeout},
        [](const std::string& line) { EndJob(line); });
    CHECK(ops.ok()) << Message(ops.status());
    ops_ = std::move(*ops);
    std::vector<int> all(static_cast<size_t>(world.size()));
    std::iota(all.begin(), all.end(), 0);
    comm_ = MakeNcclCommunicator(world, all, *ops_, world.Group(all, *host_ops_), exact);
  }

  Ops& ops() { return *ops_; }
  Communicator& comm() { return *comm_; }
  Communicator& host() { return comm_->host(); }

 private:
  std::unique_ptr<Ops> host_ops_, ops_;
  std::unique_ptr<Communicator> comm_;
};

}  // namespace trireme
