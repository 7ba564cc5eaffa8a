// ModelConfig: what config.json and generation_config.json say, checked.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"

namespace trireme {

// Rotary positions. The parameters are named as in Hugging Face's `rope_scaling`.
struct RopeConfig {
  enum class Type { kDefault, kLinear, kDynamic, kLlama3, kYarn };
  Type type = Type::kDefault;
  double theta = 10000;
  double factor = 1;
  // Positions of the pre-training: "original_max_position_embeddings", or max_positions (always so
  // for `dynamic`).
  int64_t original_max_positions = 0;
  double low_freq_factor = 1;   // llama3
  double high_freq_factor = 4;  // llama3
  double beta_fast = 32;        // yarn
  double beta_slow = 1;         // yarn
  double attention_factor = 0;  // yarn; 0: derived from factor and mscale
  double mscale = 0;            // yarn; 0: absent
  double mscale_all_dim = 0;    // yarn; 0: absent
  bool truncate = true;         // yarn
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  int64_t hidden = 0;
  int64_t n_layers = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;  // divides n_heads
  int64_t head_dim = 0;    // even
  int64_t ffn = 0;
  int64_t vocab = 0;
  int64_t max_positions = 0;  // "max_position_embeddings"
  float rms_norm_eps = 1e-6f;
  bool tied_embeddings = false;
  bool attention_bias = false;  // on q, k, v and o
  bool mlp_bias = false;        // on gate, up and down
  // "sliding_window": a token sees so many, itself included. KV blocks that have left the window
  // are kept until the sequence ends: memory grows with its length.
  int64_t window = kNoWindow;
  Activation activation = Activation::kSilu;
  RopeConfig rope;
  DType dtype = DType::kF32;     // the checkpoint's dtype or torch_dtype, or f32
  std::vector<int32_t> eos_ids;  // generation_config.json's, else config.json's; ascending

  int64_t group() const { return n_heads / n_kv_heads; }

  // Longest sequence: `dynamic` scaling goes beyond max_positions by its factor.
  int64_t context() const {
    if (rope.type != RopeConfig::Type::kDynamic) return max_positions;
    return static_cast<int64_t>(static_cast<double>(max_positions) * rope.factor);
  }
};

// What config.json calls an architecture that can be run; the list is in models/models.cc.
struct Architecture {
  std::string_view name;        // "LlamaForCausalLM"
  std::string_view model_type;  // "llama"
  // JSON: what Hugging Face takes for keys that config.json lacks, where that is not LlamaConfig's.
  // With "sliding_window" all layers have that window.
  std::string_view defaults = "{}";
};

// Of everything in `config` that the arithmetic depends on, but for the weights and their dtype.
std::string ArithmeticHash(const ModelConfig& config);

// The texts of config.json and, unless it is empty, generation_config.json. Keys that are absent
// take the architecture's defaults (eos_token_id: none). One line names the key:
// INVALID_ARGUMENT where it is missing, of the wrong type or impossible (heads that do not divide
// by KV heads, …); UNIMPLEMENTED where it asks for an architecture, activation, scaling,
// quantisation or other feature that is not supported. Keys that do not change the result are
// ignored.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config,
                                             std::string_view generation_config,
                                             std::span<const Architecture> supported);

// Reads both files from a model's directory. NOT_FOUND or PERMISSION_DENIED where config.json
// cannot be read; errors name the file.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& directory,
                                            std::span<const Architecture> supported);

// Shapes of well-known models, for random weights in benches: "tinyllama-1.1b", "qwen2-0.5b",
// "llama3-8b", …; bf16, no eos_ids. NOT_FOUND listing the names.
absl::StatusOr<ModelConfig> NamedShape(std::string_view name);
std::vector<std::string> ShapeNames();

}  // namespace trireme
