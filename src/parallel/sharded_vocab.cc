#include "parallel/sharded_vocab.h"

namespace trireme {

absl::StatusOr<ShardedVocab> ShardedVocab::Load(const TensorStore& store, Ops& ops,
                                                const Split& split, DType dtype,
                                                const std::string& name, int64_t hidden) {
  ShardedVocab vocab;
  vocab.rows_ = split.vocab();
  vocab.sum_.n_parts.assign(split.tp(), 1);
  vocab.sum_.merges = SumTree(split.tp()).Merges({0, split.tp()});
  ASSIGN_OR_RETURN(auto source, store.Matrix(name + ".weight", vocab.rows_, {0, hidden}));
  ASSIGN_OR_RETURN(vocab.weight_, ops.Pack(*source, WeightSpec{.dtype = dtype}));
  return vocab;
}

Partial ShardedVocab::Embed(Mesh& mesh, Arena& arena, Tensor ids, DType out) const {
  const int64_t n_tokens = ids.dim(0), hidden = weight_->n_in();
  Partial partial{.sum = &sum_};
  if (mesh.split().tp() == 1) {
    partial.parts = arena.New(out, {n_tokens, hidden});
    mesh.ops().Embed(partial.parts, ids, *weight_, rows_.begin);
  } else {
    partial.parts = mesh.PartsFor(1, n_tokens, hidden);
    mesh.ops().Embed(partial.parts.As({n_tokens, hidden}), ids, *weight_, rows_.begin);
  }
  return partial;
}

Tensor ShardedVocab::Logits(Mesh& mesh, Arena& arena, Tensor h) const {
  Tensor logits = arena.New(DType::kF32, {h.dim(0), weight_->n_out()});
  mesh.ops().Linear(logits, h, *weight_);
  return logits;
}

}  // namespace trireme
