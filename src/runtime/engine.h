// Engine: runs plans on this rank's layers. Every rank runs the same code on the same plan.
//
// On an asynchronous device a plan is enqueued, and its ids are read when they are there; the next
// one may be enqueued before, and names ids that the host does not know yet by their place among
// those that the last one draws. Steps that only decode are recorded and replayed: they are padded
// to a few numbers of rows and of KV blocks.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/model.h"
#include "runtime/rope.h"
#include "runtime/sampler.h"
#include "runtime/step_plan.h"

namespace trireme {

struct EngineOptions {
  DType activations = DType::kF32;  // also of the KV pages
  int64_t n_blocks = 0;             // of KV, to begin with
  StepSize largest;                 // of any plan
  int32_t context_length = 0;
};

class Engine {
 public:
  Engine(const ModelConfig& config, std::unique_ptr<Model> model, Mesh& mesh,
         const EngineOptions& options);

  // KV blocks in place of those at hand, empty ones. While no plan is begun.
  void SetKvBlocks(int64_t n_blocks);

  // Begins a plan; at most most_started() are begun and not finished.
  void Start(const StepPlan& plan);
  // Waits for the oldest: ids on the last stage's first rank, nothing on the others.
  std::optional<StepResult> Finish();
  std::optional<StepResult> Run(const StepPlan& plan);

  // It grows while a step is computed. From any thread.
  uint64_t n_moves() const { return mesh_.n_entered(); }

  int n_started() const { return static_cast<int>(started_.size()); }
  int most_started() const { return asynchronous_ ? 2 : 1; }

  // The last plan's logits of this rank's vocabulary, on the last stage: [S,V] float32. For tests.
  Tensor logits() const { return logits_; }

  // KV bytes of one block over this rank's layers and heads.
  static int64_t KvBlockBytes(const ModelConfig& config, const Split& split, DType activations);
  // The largest shapes that will move between ranks.
  static WorldOptions Traffic(const ModelConfig& config, const Split& split,
                              const StepSize& largest, DType activations);

 private:
  // The shape that a plan runs in.
  struct Shape {
    int64_t n_tokens = 0;     // T
    int64_t n_sequences = 0;  // S
    int64_t n_rows = 0;       // of logits
    int64_t max_blocks = 0;
    int64_t max_rows = 0;    // see AttentionPlan
    int64_t max_kv_len = 0;  // see AttentionPlan
  };
  struct Outputs {
    Tensor residual, logits;
  };
  struct Readbacks {
    std::unique_ptr<Readback> ids, logprobs;
  };
  struct Started {
    int64_t plan_id;
    std::vector<int32_t> n_top;  // of the samples that want logprobs
    Readbacks readbacks;
  };

  bool CanReplay(const StepPlan& plan) const;
  Shape ShapeOf(const StepPlan& plan, bool replay) const;
  ModelStep Prepare(const StepPlan& plan, const Shape& shape, Tensor* rows);
  Outputs Compute(ModelStep& step, Tensor received, Tensor rows) const;

  ModelConfig config_;
  std::unique_ptr<Model> model_;
  Mesh& mesh_;
  EngineOptions options_;
  bool asynchronous_;
  Rope rope_;
  std::unique_ptr<Sampler> sampler_;  // last stage
  Buffer kv_pages_;
  std::vector<KvLayer> kv_;  // of this rank's layers
  StepArenas arenas_;
  std::vector<std::byte> inputs_;  // of a step, as they lie at the beginning of its arena
  std::vector<int32_t> positions_;
  std::vector<DropoutRow> dropout_;
  std::map<std::string, Outputs> replayed_;
  Tensor logits_;
  Tensor drawn_;  // by the last plan
  std::deque<Started> started_;
  std::vector<Readbacks> free_readbacks_;
};

}  // namespace trireme
