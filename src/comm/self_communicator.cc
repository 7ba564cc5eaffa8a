#include "comm/self_communicator.h"

#include <cstring>

#include "comm/all_reduce.h"

namespace trireme {

SelfCommunicator::SelfCommunicator(Ops& ops, const WorldOptions& options)
    : ops_(ops), parts_(ops.Allocate(options.max_parts_bytes)) {}

Tensor SelfCommunicator::Parts(int64_t n_parts, int64_t T, int64_t H) {
  const Tensor parts(parts_.data(), DType::kF32, {n_parts, T, H});
  CHECK_LE(parts.bytes(), parts_.bytes()) << "beyond WorldOptions::max_parts_bytes";
  return parts;
}

void SelfCommunicator::AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) {
  CheckReduce(y, parts, sum, 0, 1, y.dim(0));
  if (y.size() == 0) return;
  pointers_.clear();
  for (int64_t i = 0; i < parts.dim(0); ++i) pointers_.push_back(parts.f32() + i * y.size());
  ops_.SumParts(y, pointers_, sum.merges, bias);
}

void SelfCommunicator::ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum,
                                     const float* bias) {
  AllReduce(y, parts, sum, bias);
}

void SelfCommunicator::AllGather(Tensor y, Tensor x) {
  CHECK_EQ(y.bytes(), x.bytes());
  if (y.raw() != x.raw() && !x.empty()) std::memcpy(y.raw(), x.raw(), x.bytes());
}

void SelfCommunicator::Send(Tensor, int to) {
  CHECK(false) << "Send to " << to << " in a group of one";
}
void SelfCommunicator::Recv(Tensor, int from) {
  CHECK(false) << "Recv from " << from << " in a group of one";
}

}  // namespace trireme
