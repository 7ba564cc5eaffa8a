// Vocabulary-parallel embedding and LM head: a rank holds the rows of its chunks. Tied embeddings
// share one weight where a rank holds both.
#pragma once

#include <memory>
#include <string>

#include "parallel/mesh.h"
#include "runtime/tensor_store.h"

namespace trireme {

class ShardedVocab {
 public:
  static absl::StatusOr<ShardedVocab> Load(const TensorStore& store, Ops& ops, const Split& split,
                                           DType dtype, const std::string& name, int64_t hidden);

  // ids: [T] int32 -> [T,H]; rows of other ranks are zeros here, the sum over ranks is exact.
  Partial Embed(Mesh& mesh, Arena& arena, Tensor ids, DType out) const;

  // h: [S,H] -> logits of this rank's rows, [S,V] float32.
  Tensor Logits(Mesh& mesh, Arena& arena, Tensor h) const;

  int64_t first_id() const { return rows_.begin; }
  const Weight& weight() const { return *weight_; }

 private:
  std::unique_ptr<Weight> weight_;
  Range rows_;
  GroupSum sum_;  // one part per rank
};

}  // namespace trireme
