// ReplicaRank: one rank of a replica, from flags to the running loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/build_id.h"
#include "comm/world.h"
#include "runtime/device.h"
#include "runtime/engine.h"
#include "runtime/leader.h"
#include "runtime/replica.h"

namespace trireme {

struct ReplicaOptions {
  std::string model_dir;    // Hugging Face layout; empty with `shape`
  std::string shape;        // random weights of a named shape (runtime/config.h), for benches
  std::string served_name;  // empty: the directory's name
  Layout layout;
  std::optional<DType> dtype;  // weights; unset: the checkpoint's
  // Also of the KV pages; unset: on a GPU the weights' where those have 16 bits, else f32.
  std::optional<DType> activations;
  DeviceKind device = DeviceKind::kAuto;
  CommKind comm = CommKind::kAuto;
  bool exact = false;  // on CUDA the same bits whatever the layout; the CPU always does that
  int threads = 0;     // per rank; 0: the host's CPUs shared by its ranks
  int64_t kv_cache_bytes = 0;  // per rank; 0: this replica's share of half of the free memory
  double gpu_memory_utilization = 0.9;  // or this much of what is free on a GPU
  int host_replicas = 1;                // that share this host's memory
  int32_t number = -1;                  // that its supervisor knows it by
  int32_t max_rows = 64;
  int32_t max_batch_tokens = 512;
  int32_t context_length = 0;  // 0: the model's
  bool prefix_cache = true;
  bool avx512 = true;
  std::chrono::milliseconds step_timeout{30000};  // without progress, for which the replica ends
  // Must be equal on all ranks.
  std::string version;  // of the program
  std::string build_id = BuildId();
};

class ReplicaRank {
 public:
  // Collective over the world; either all ranks succeed or all return the first rank's error.
  // Refuses ranks that differ in program version or build, options or model, by name. Ends with a
  // real forward pass through all ranks: what has loaded can serve.
  static absl::StatusOr<std::unique_ptr<ReplicaRank>> Load(const ReplicaOptions& options,
                                                           World& world,
                                                           const LoadProgress& progress = {});

  // Rank 0 serves until Replica::Stop(), the others follow.
  void Run();

  Replica& replica();  // rank 0 only
  const ModelConfig& config() const { return config_; }
  const Split& split() const { return mesh_->split(); }
  Mesh& mesh() { return *mesh_; }
  Engine& engine() { return *engine_; }
  const SchedulerOptions& scheduler_options() const { return scheduler_options_; }
  int64_t weight_bytes() const { return weight_bytes_; }
  DType dtype() const { return dtype_; }  // of the weights
  DType activations() const { return activations_; }

 private:
  explicit ReplicaRank(World& world) : world_(world) {}

  absl::Status Open(const ReplicaOptions& options, const CpuOptions& share);
  absl::Status AgreeOn(const std::string& mine);
  absl::Status CheckMemory(const ReplicaOptions& options) const;
  // Collective; the same result on all ranks.
  absl::Status ChooseExchange(const ReplicaOptions& options);
  absl::Status LoadWeights(const LoadProgress& progress);
  void MakeEngine(const ReplicaOptions& options);
  // One real forward pass through every rank, with tokens that nobody asked for: the largest one
  // where the memory that it leaves is to be seen.
  void WarmUp(const ReplicaOptions& options);
  // How many KV blocks this rank could have.
  absl::StatusOr<int64_t> CountKvBlocks(const ReplicaOptions& options) const;
  void Start(const ReplicaOptions& options, int64_t n_blocks);
  bool MeasuresMemory(const ReplicaOptions& options) const;
  int64_t ContextLength(const ReplicaOptions& options) const;
  ReplicaInfo Describe(const ReplicaOptions& options) const;
  // All ranks' statuses become one: the first error, naming its rank and host.
  absl::Status Agree(const absl::Status& mine);

  World& world_;
  ModelConfig config_;
  std::vector<std::string> hosts_;  // by rank
  DType dtype_ = DType::kF32;
  DType activations_ = DType::kF32;
  std::unique_ptr<TensorStore> store_;
  std::optional<Split> split_;
  std::optional<Device> device_;
  DeviceExchange exchange_;
  std::string exchange_name_;    // empty where nothing is exchanged between CUDA devices
  int n_threads_ = 1;            // that compute
  std::optional<int> main_cpu_;  // of this rank's share, where it is pinned
  std::unique_ptr<Model> model_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Leader> leader_;
  SchedulerOptions scheduler_options_;
  std::string fingerprint_;
  int64_t weight_bytes_ = 0;
  std::chrono::milliseconds step_timeout_{};
};

}  // namespace trireme
