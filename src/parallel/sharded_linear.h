// A linear layer cut over a tensor-parallel group (Shoeybi et al. 2019): by output columns, or by
// input rows with the partial sums finished in Mesh::Leave.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/tensor_store.h"

namespace trireme {

class ColumnParallel {
 public:
  // A matrix [rows,cols] of the checkpoint of which this rank takes `rows`; several are fused, one
  // after the other. Biases are named "<name>.bias" beside "<name>.weight".
  struct Piece {
    std::string name;
    Range rows;
  };

  static absl::StatusOr<ColumnParallel> Load(const TensorStore& store, Ops& ops, DType dtype,
                                             const std::vector<Piece>& pieces, int64_t n_in,
                                             bool bias);

  Tensor Run(Ops& ops, Arena& arena, Tensor x, DType out) const;  // [T,n_in] -> [T,n_out here]
  const Weight& weight() const { return *weight_; }

 private:
  std::unique_ptr<Weight> weight_;
};

class RowParallel {
 public:
  // The matrix `name`.weight [n_out, all columns], of which this rank takes `cols`; `bounds` cuts
  // them into its chunks.
  static absl::StatusOr<RowParallel> Load(const TensorStore& store, Ops& ops, const Split& split,
                                          DType dtype, const std::string& name, int64_t n_out,
                                          Range cols, std::vector<int64_t> bounds, bool bias);

  Partial Run(Mesh& mesh, Arena& arena, Tensor x, DType out) const;  // [T,cols] -> sums over all
  const Weight& weight() const { return *weight_; }

 private:
  std::unique_ptr<Weight> weight_;
  GroupSum sum_;
  Buffer bias_;  // [n_out] float32, added after the sum; empty where tp = 1 or there is none
};

}  // namespace trireme
