// Mesh: this rank's place, its communicators, and what Enter and Leave mean for the step.
//
// Models speak of two regions. Inside a sharded region (attention, MLP) a rank holds all T tokens
// of its heads or columns; outside (residual, norms, dropout) it holds T/sp tokens of the whole
// hidden size, sp = tp under sequence parallelism and 1 otherwise (Korthikanti et al. 2022). Enter
// brings the normed input in, Leave brings the partial sums out:
//
//               tp = 1      tensor parallel    sequence parallel
//   Enter       nothing     nothing            all-gather
//   Leave       nothing     all-reduce         reduce-scatter
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "comm/world.h"
#include "kernels/ops.h"
#include "parallel/split.h"

namespace trireme {

// What a row-parallel product leaves on this rank: see comm/communicator.h.
struct Partial {
  Tensor parts;  // [n_parts,T,H] float32, or [T,H] complete where tp = 1
  const GroupSum* sum = nullptr;
  const float* bias = nullptr;  // [H], added once after the sum; already added where tp = 1
};

// How tensors of a device that is not the CPU move between ranks.
struct DeviceExchange {
  bool nccl = false;   // otherwise by way of the host
  bool exact = false;  // with the sums in the CPU's order; by way of the host they always are
};

class Mesh {
 public:
  // Collective over the world. `host`: the CPU's verbs, for exchanges by way of the host; the same
  // as `ops` where the CPU is the device.
  Mesh(World& world, Ops& ops, Ops& host, const Split& split, DeviceExchange exchange = {});

  const Split& split() const { return split_; }
  Ops& ops() const { return *ops_; }
  Communicator& tp() { return *tp_group_; }
  // True if a step's exchanges only enqueue work: see Communicator::on_stream().
  bool on_stream() const {
    return (split_.tp() == 1 || tp_group_->on_stream()) &&
           (split_.pp() == 1 || pp_group_->on_stream());
  }
  const Traffic& tp_traffic() const { return tp_group_->traffic(); }

  // Begins a step: how residual regions are held. With sequence parallelism, T divides by tp.
  void BeginStep(bool sequence_parallel);

  int sp() const { return sequence_parallel_ ? split_.tp() : 1; }
  // How many regions have been entered: it grows while a step is computed. From any thread.
  uint64_t n_entered() const { return n_entered_.load(std::memory_order_relaxed); }

  // This rank's rows of T tokens in residual regions.
  Range ResidualRows(int64_t n_tokens) const;

  Tensor Enter(Arena& arena, Tensor x);                           // [T/sp,H] -> [T,H]
  Tensor Leave(Arena& arena, const Partial& partial, DType out);  // -> [T/sp,H]
  // Where a row-parallel product of this shape is best written (tp > 1).
  Tensor PartsFor(int64_t n_parts, int64_t T, int64_t H) { return tp_group_->Parts(n_parts, T, H); }

  void SendToNextStage(Tensor x) { pp_group_->Send(x, split_.stage() + 1); }
  void RecvFromPreviousStage(Tensor x) { pp_group_->Recv(x, split_.stage() - 1); }

 private:
  Split split_;
  Ops* ops_;
  std::unique_ptr<Communicator> tp_group_;
  std::unique_ptr<Communicator> pp_group_;
  bool sequence_parallel_ = false;
  std::atomic<uint64_t> n_entered_ = 0;
};

}  // namespace trireme
