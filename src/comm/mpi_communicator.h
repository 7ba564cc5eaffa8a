// MpiCommunicator: ranks that may be on several hosts; everything is non-blocking point to point.
#pragma once

#include <deque>
#include <vector>

#include "comm/all_reduce.h"
#include "comm/communicator.h"
#include "comm/lazy_memory.h"
#include "comm/mpi_port.h"
#include "kernels/ops.h"

namespace trireme {

class MpiCommunicator : public Communicator {
 public:
  // Collective over `ranks` (of the world, ascending): connects every pair. `group` is a number
  // that no other group with two of these ranks has. `port` must outlive this.
  MpiCommunicator(std::vector<int> ranks, int group, const WorldOptions& options, Ops& ops,
                  MpiPort& port);
  ~MpiCommunicator() override;  // waits until the others have received what this rank sent

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(ranks_.size()); }
  Tensor Parts(int64_t n_parts, int64_t T, int64_t H) override;
  void AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override;
  void ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override;
  void AllGather(Tensor y, Tensor x) override;
  void Send(Tensor x, int to) override;
  void Recv(Tensor x, int from) override;
  const Traffic& traffic() const override { return traffic_; }

 private:
  // Memory that sends read; used in turn, so that a collective need not wait for its own sends.
  struct Outgoing {
    LazyMemory memory;
    uint64_t last_send = 0;  // must be done before the memory is written again
    explicit Outgoing(size_t bytes) : memory(bytes) {}
  };

  int world_rank(int rank) const { return ranks_[static_cast<size_t>(rank)]; }
  RowRange& rows(int rank) { return rows_[static_cast<size_t>(rank)]; }
  float* received(int from) const;

  Tensor PlaceParts(Tensor parts);
  Outgoing& NextTensor(const char* verb);
  void ExchangeRows(Tensor parts, const GroupSum& sum, const char* verb);
  void SumRows(Tensor y, Tensor parts, const GroupSum& sum, const float* bias);
  void GatherRows(Tensor y, const char* verb);

  std::vector<int> ranks_;
  int rank_ = 0;
  int collective_tag_;
  int point_to_point_tag_;
  WorldOptions options_;
  Ops& ops_;
  MpiPort& port_;
  Outgoing parts_[2];
  Outgoing tensors_[2];
  LazyMemory received_;  // max_parts_bytes from each rank
  uint32_t reductions_ = 0;
  uint32_t gathers_ = 0;
  std::vector<std::deque<uint64_t>> sent_;  // by receiver: last piece of each tensor under way
  std::vector<RowRange> rows_;              // by rank: the rows that it finishes in this call
  std::vector<const float*> pointers_;
  Traffic traffic_;
};

}  // namespace trireme
