// StagedCommunicator: a device's tensors by way of host memory and a communicator of the host,
// where the device has none of its own (two ranks on one device, no NCCL).
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/world.h"
#include "kernels/ops.h"

namespace trireme {

// `inner` was made with `host`, the CPU's verbs, under `options`. Sums are done by the host, in the
// same order as there. Every call waits for the device.
std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> inner, Ops& ops,
                                                     Ops& host, const WorldOptions& options);

}  // namespace trireme
