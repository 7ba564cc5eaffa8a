// NcclCommunicator: tensors of CUDA devices by NCCL. Every call enqueues on the device's compute
// stream and returns: CUDA graphs may capture it.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "comm/communicator.h"
#include "comm/world.h"
#include "kernels/ops.h"

namespace trireme {

// What NCCL is here, "NCCL 2.28.3", if it can serve this world: a build with NCCL, its library on
// every host, a CUDA device of its own for each rank. Otherwise the same error on every rank.
// Collective, after each rank has its device.
absl::StatusOr<std::string> FindNccl(World& world);

// Collective over the world: each rank with its group (ascending, containing this rank, at least
// two). `ops`: of MakeCudaOps(). `host`: the same ranks for host memory.
//
// `exact`: sums are in the order of GroupSum, with the bits of the CPU's; otherwise a rank's parts
// are added, rounded to y's type, and NCCL adds the ranks' as it likes.
//
// A peer that does not come or is gone, and an error inside NCCL, end the job in the next wait for
// the device with a line that names what was enqueued last.
std::unique_ptr<Communicator> MakeNcclCommunicator(World& world, std::span<const int> ranks,
                                                   Ops& ops, std::unique_ptr<Communicator> host,
                                                   bool exact);

}  // namespace trireme
