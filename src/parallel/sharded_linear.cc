#include "parallel/sharded_linear.h"

namespace trireme {

absl::StatusOr<ColumnParallel> ColumnParallel::Load(const TensorStore& store, Ops& ops, DType dtype,
                                                    const std::vector<Piece>& pieces, int64_t n_in,
                                                    bool bias) {
  std::vector<std::unique_ptr<MatrixSource>> sources;
  WeightSpec spec{.dtype = dtype};
  for (const Piece& piece : pieces) {
    ASSIGN_OR_RETURN(auto source, store.Matrix(piece.name + ".weight", piece.rows, {0, n_in}));
    sources.push_back(std::move(source));
    if (!bias) continue;
    ASSIGN_OR_RETURN(std::vector<float> values, store.Vector(piece.name + ".bias", piece.rows));
    spec.bias.insert(spec.bias.end(), values.begin(), values.end());
  }
  ColumnParallel layer;
  ASSIGN_OR_RETURN(layer.weight_, ops.Pack(*Concatenate(std::move(sources)), spec));
  return layer;
}

Tensor ColumnParallel::Run(Ops& ops, Arena& arena, Tensor x, DType out) const {
  Tensor y = arena.New(out, {x.dim(0), weight_->n_out()});
  ops.Linear(y, x, *weight_);
  return y;
}

absl::StatusOr<RowParallel> RowParallel::Load(const TensorStore& store, Ops& ops,
                                              const Split& split, DType dtype,
                                              const std::string& name, int64_t n_out, Range cols,
                                              std::vector<int64_t> bounds, bool bias) {
  RowParallel layer;
  layer.sum_ = split.group_sum();
  WeightSpec spec{.dtype = dtype, .col_bounds = std::move(bounds), .merges = split.merges()};
  if (bias) {
    ASSIGN_OR_RETURN(std::vector<float> values, store.Vector(name + ".bias", {0, n_out}));
    if (split.tp() == 1) {
      spec.bias = std::move(values);
    } else {
      layer.bias_ = ops.Allocate(values.size() * sizeof(float));
      ops.Upload(Tensor(layer.bias_.data(), DType::kF32, {n_out}), values.data());
    }
  }
  ASSIGN_OR_RETURN(auto source, store.Matrix(name + ".weight", {0, n_out}, cols));
  ASSIGN_OR_RETURN(layer.weight_, ops.Pack(*source, spec));
  return layer;
}

Partial RowParallel::Run(Mesh& mesh, Arena& arena, Tensor x, DType out) const {
  const int64_t n_tokens = x.dim(0), n_out = weight_->n_out();
  Partial partial{.sum = &sum_, .bias = reinterpret_cast<const float*>(bias_.data())};
  partial.parts = mesh.split().tp() == 1 ? arena.New(out, {n_tokens, n_out})
                                         : mesh.PartsFor(weight_->n_parts(), n_tokens, n_out);
  mesh.ops().Linear(partial.parts, x, *weight_);
  return partial;
}

}  // namespace trireme
