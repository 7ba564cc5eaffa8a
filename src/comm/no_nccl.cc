// What a build without NCCL has in its place.
#include "base/check.h"
#include "comm/nccl_communicator.h"

namespace trireme {

absl::StatusOr<std::string> FindNccl(World&) { return Unimplemented("this build has no NCCL"); }

std::unique_ptr<Communicator> MakeNcclCommunicator(World&, std::span<const int>, Ops&,
                                                   std::unique_ptr<Communicator>, bool) {
  CHECK(false) << "FindNccl() refuses";
  return nullptr;
}

}  // namespace trireme
