// SelfCommunicator: a group of one rank.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/world.h"
#include "kernels/ops.h"

namespace trireme {

class SelfCommunicator : public Communicator {
 public:
  SelfCommunicator(Ops& ops, const WorldOptions& options);

  int rank() const override { return 0; }
  int size() const override { return 1; }
  Tensor Parts(int64_t n_parts, int64_t T, int64_t H) override;
  void AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override;
  void ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override;
  void AllGather(Tensor y, Tensor x) override;
  void Send(Tensor x, int to) override;
  void Recv(Tensor x, int from) override;
  const Traffic& traffic() const override { return traffic_; }

 private:
  Ops& ops_;
  Buffer parts_;
  std::vector<const float*> pointers_;
  Traffic traffic_;
};

}  // namespace trireme
