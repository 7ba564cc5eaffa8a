#include "parallel/mesh.h"

#include <utility>

#include "comm/nccl_communicator.h"
#include "comm/staged_communicator.h"

namespace trireme {

Mesh::Mesh(World& world, Ops& ops, Ops& host, const Split& split, DeviceExchange exchange)
    : split_(split), ops_(&ops) {
  const auto group = [&](const std::vector<int>& ranks) {
    std::unique_ptr<Communicator> communicator = world.Group(ranks, host);
    if (&ops == &host || ranks.size() == 1) return communicator;  // alone: never asked
    if (exchange.nccl) {
      return MakeNcclCommunicator(world, ranks, ops, std::move(communicator), exchange.exact);
    }
    return MakeStagedCommunicator(std::move(communicator), ops, host, world.options());
  };
  tp_group_ = group(split.tp_group());
  pp_group_ = group(split.pp_group());
}

void Mesh::BeginStep(bool sequence_parallel) {
  sequence_parallel_ = sequence_parallel && split_.tp() > 1;
}

Range Mesh::ResidualRows(int64_t n_tokens) const {
  if (!sequence_parallel_) return {0, n_tokens};
  const int64_t rows = n_tokens / split_.tp();
  return {split_.tp_rank() * rows, (split_.tp_rank() + 1) * rows};
}

Tensor Mesh::Enter(Arena& arena, Tensor x) {
  n_entered_.fetch_add(1, std::memory_order_relaxed);
  if (!sequence_parallel_) return x;
  Tensor y = arena.New(x.dtype(), {x.dim(0) * split_.tp(), x.dim(1)});
  tp_group_->AllGather(y, x);
  return y;
}

Tensor Mesh::Leave(Arena& arena, const Partial& partial, DType out) {
  if (split_.tp() == 1) return partial.parts;
  const int64_t n_tokens = partial.parts.dim(1), hidden = partial.parts.dim(2);
  Tensor y = arena.New(out, {n_tokens / sp(), hidden});
  if (sequence_parallel_) {
    tp_group_->ReduceScatter(y, partial.parts, *partial.sum, partial.bias);
  } else {
    tp_group_->AllReduce(y, partial.parts, *partial.sum, partial.bias);
  }
  return y;
}

}  // namespace trireme
