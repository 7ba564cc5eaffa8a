// SharedCommunicator: ranks of one host that read each other's memory.
//
// Each rank owns a segment that all ranks of the group see (threads: plain memory; processes: an
// MPI shared window). A rank writes only its own segment, apart from the `taken` bells of messages
// to it, and peers read it after its bell.
//
// One counter, `posts_`, orders everything: each collective rings the own bell (the sliced
// AllReduce twice) and waits until all peers rang as often. Parts and gathered tensors lie in two
// buffers each, used in turn. So nothing is overwritten while a peer reads it: when this rank uses
// a buffer again, it has been through a later collective, whose bell a peer rings only when it has
// left the one that used the buffer.
#pragma once

#include <memory>
#include <vector>

#include "comm/all_reduce.h"
#include "comm/communicator.h"
#include "comm/wait.h"
#include "comm/world.h"
#include "kernels/ops.h"

namespace trireme {

class SharedCommunicator : public Communicator {
 public:
  // Bytes of one rank's segment in a group of `size`; zeroed, aligned to 64.
  static size_t SegmentBytes(const WorldOptions& options, int size);

  // `ranks`: of the world, ascending; `segments`: one per rank of the group. All must outlive this.
  SharedCommunicator(std::vector<int> ranks, std::vector<std::byte*> segments,
                     const WorldOptions& options, Ops& ops, Waiter& waiter);
  ~SharedCommunicator() override;

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
  struct Channel;  // from one rank to another
  struct Layout;   // of a segment

  Bell& bell(int rank) const;
  Channel& channel(int from, int to) const;
  float* parts_of(int rank) const;       // of this reduction
  std::byte* tensor_of(int rank) const;  // of this collective

  void PlaceParts(Tensor parts);
  void Post();
  void AwaitPost(int peer, const char* verb);
  void SumRows(Tensor y, RowRange rows, int64_t T, const GroupSum& sum, const float* bias);
  void ReduceInSlices(Tensor y, int64_t n_parts, const GroupSum& sum, const float* bias);

  std::vector<int> ranks_;
  std::vector<std::byte*> segments_;
  WorldOptions options_;
  Ops& ops_;
  Waiter& waiter_;
  std::unique_ptr<const Layout> layout_;
  int rank_ = 0;
  uint32_t posts_ = 0;       // rings of each rank's bell so far
  uint32_t reductions_ = 0;  // AllReduce and ReduceScatter begun
  uint32_t gathers_ = 0;     // uses of the tensor buffers
  std::vector<const float*> pointers_;
  Traffic traffic_;
};

}  // namespace trireme
