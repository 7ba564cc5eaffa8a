// Communicator: one group of ranks that exchange tensors. It never returns an error: a lost peer or
// an expired deadline ends the job with one line naming rank, host and call.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"

namespace trireme {

// How the ranks' partial sums become one: see kernels/sum_tree.h.
struct GroupSum {
  std::vector<int> n_parts;     // per rank: parts that it contributes
  std::vector<uint8_t> merges;  // over all parts in rank order: how to finish the tree
};

// Payload bytes that this rank gave to other ranks, whether it sent them or they read them from
// shared memory. With n ranks, p parts of this rank, t of T rows for this rank:
//   AllReduce, gathered   (n-1) * p*T*H*4                    each rank finishes the whole sum
//   AllReduce, sliced     p*(T-t)*H*4 + (n-1) * t*H*SizeOf(y)   t = floor((r+1)T/n) - floor(rT/n)
//   ReduceScatter         p*(T-t)*H*4                        t = T/n
//   AllGather             (n-1) * x.bytes()
//   Send                  x.bytes()
// The sliced form is taken where T >= n and it moves far fewer bytes (all_reduce.h: UseSlices). One
// part each and float32: sliced is Megatron's 2(n-1)/n * T*H*4, and so are ReduceScatter +
// AllGather.
struct Traffic {
  int64_t reduce_bytes = 0;          // AllReduce and ReduceScatter, parts and results
  int64_t gather_bytes = 0;          // AllGather
  int64_t point_to_point_bytes = 0;  // Send
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Where the next AllReduce's or ReduceScatter's parts are best written: [n_parts,T,H] float32.
  // Valid until that call returns; parts elsewhere are copied.
  virtual Tensor Parts(int64_t n_parts, int64_t T, int64_t H) = 0;

  // y = all ranks' parts added by `sum`, + bias [H] unless null; the same bits on every rank.
  //   parts: [n_parts[rank],T,H] float32   y: [T,H]   all of it in the memory of one device
  virtual void AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) = 0;

  // Row block `rank` of the same.   y: [T/size,H]; T divides by size
  virtual void ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) = 0;

  // y = the ranks' x, one after the other.   x: [T/size,H]   y: [T,H]
  virtual void AllGather(Tensor y, Tensor x) = 0;

  // Point to point inside the group; messages between two ranks keep their order; shapes and types
  // agree on both sides. Send returns before Recv is called while less than 4 tensors are under way
  // to that rank; inside a host, that holds for any size to the next rank of the group (the last
  // one's next is the first), for at most 256 KiB together to others. On a stream both only
  // enqueue, and a Send may hold the stream until its Recv is there.
  virtual void Send(Tensor x, int to) = 0;
  virtual void Recv(Tensor x, int from) = 0;

  // True if the calls only enqueue work on the device's stream: they never wait on the host, and
  // Ops::Replay may record them.
  virtual bool on_stream() const { return false; }

  virtual const Traffic& traffic() const = 0;

  // The same ranks for tensors in host memory: this one, unless it is for another device's.
  virtual Communicator& host() { return *this; }
};

}  // namespace trireme
