// Model: one architecture's forward pass over this rank's layers and chunks. One file per family in
// models/, one line per architecture in models.cc.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/config.h"
#include "runtime/tensor_store.h"

namespace trireme {

// The step's temporaries. A sublayer resets its own arena and reads the other's last output, so two
// of them carry any number of layers.
struct StepArenas {
  Arena step;  // inputs, residual, logits
  Arena attention;
  Arena mlp;
};

// What a forward pass reads. Tp = T padded to a multiple of tp under sequence parallelism.
struct ModelStep {
  Mesh& mesh;
  StepArenas& arenas;
  DType activations = DType::kF32;
  Tensor ids;       // [Tp] int32
  Tensor cos, sin;  // [Tp, D/2] float32
  Tensor slots;     // [Tp] int32, -1 for padding
  AttentionPlan attention;
  std::span<const DropoutRow> dropout;  // rows of this rank's residual region; empty: none
  std::span<const KvLayer> kv;          // of this rank's layers

  int64_t n_tokens() const { return ids.dim(0); }
};

struct StepSize {
  int64_t n_tokens = 0;  // T, padding included
  int64_t n_rows = 0;    // logits rows
};

// Bytes that the arenas need for the largest step.
struct ArenaBytes {
  size_t step, attention, mlp;
};

class Model {
 public:
  virtual ~Model() = default;

  virtual Tensor Embed(ModelStep& step) const = 0;                   // -> [Tp/sp,H]
  virtual void Forward(ModelStep& step, Tensor residual) const = 0;  // in place, [Tp/sp,H]
  // Logits of chosen rows over this rank's vocabulary. rows: [S] int32, global token rows.
  virtual Tensor Logits(ModelStep& step, Tensor residual, Tensor rows) const = 0;  // -> [S,V] f32

  virtual int64_t weight_bytes() const = 0;  // packed, on this rank
};

struct ModelOptions {
  DType dtype = DType::kF32;  // weights as packed
};

// What LoadModel can load.
std::vector<Architecture> Architectures();

// Every tensor of a checkpoint of this configuration.
std::vector<TensorSpec> ModelTensors(const ModelConfig& config);

// What a rank will hold, without padding.
int64_t WeightBytes(const ModelConfig& config, const Split& split, DType dtype);
ArenaBytes Arenas(const ModelConfig& config, const Split& split, const StepSize& largest,
                  DType activations);

// Called on the loading thread: bytes of this rank's matrices so far (in the dtype they are packed
// as, without padding), and of all of them.
using LoadProgress = std::function<void(int64_t bytes, int64_t total)>;

// Reads this rank's part, so that the ranks of a replica read each weight byte once; but norms and
// biases are on every rank of a stage, KV heads on every rank whose query heads read them, and a
// tied embedding on the first stage and the last.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const ModelConfig& config,
                                                 const TensorStore& store, Ops& ops,
                                                 const Split& split, const ModelOptions& options,
                                                 const LoadProgress& progress);

}  // namespace trireme
