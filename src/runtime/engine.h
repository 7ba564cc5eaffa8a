// Engine: runs plans on this rank's layers. Every rank runs the same code on the same plan.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/model.h"
#include "runtime/rope.h"
#include "runtime/sampler.h"
#include "runtime/step_plan.h"

namespace trireme {

struct EngineOptions {
  DType activations = DType::kF32;  // also of the KV pages
  int64_t n_blocks = 0;
  StepSize largest;  // of any plan
  int32_t context_length = 0;
};

class Engine {
 public:
  Engine(const ModelConfig& config, std::unique_ptr<Model> model, Mesh& mesh,
         const EngineOptions& options);

  // Ids on the last stage's first rank, nothing on the others.
  std::optional<StepResult> Run(const StepPlan& plan);

  // The last Run's logits of this rank's vocabulary, on the last stage: [S,V] float32. For tests.
  Tensor logits() const { return logits_; }

  // KV bytes of one block over this rank's layers and heads.
  static int64_t KvBlockBytes(const ModelConfig& config, const Split& split, DType activations);
  // The largest shapes that will move between ranks.
  static WorldOptions Traffic(const ModelConfig& config, const Split& split,
                              const StepSize& largest, DType activations);

 private:
  ModelStep Prepare(const StepPlan& plan);

  ModelConfig config_;
  std::unique_ptr<Model> model_;
  Mesh& mesh_;
  EngineOptions options_;
  Rope rope_;
  std::unique_ptr<Sampler> sampler_;  // last stage
  Buffer kv_pages_;
  std::vector<KvLayer> kv_;  // of this rank's layers
  StepArenas arenas_;
  std::vector<int32_t> padded_ids_, padded_slots_, padded_positions_, rows_;
  std::vector<float> cos_, sin_;
  std::vector<DropoutRow> dropout_;
  Tensor logits_;
};

}  // namespace trireme
