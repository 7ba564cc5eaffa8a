// ModelConfig: what config.json and generation_config.json say, checked.
#pragma once

#include <cstdint>
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
  int64_t original_max_positions = 0;  // "original_max_position_embeddings", or max_positions
  double low_freq_factor = 1;          // llama3
  double high_freq_factor = 4;         // llama3
  double beta_fast = 32;               // yarn
  double beta_slow = 1;                // yarn
  double attention_factor = 0;         // yarn; 0: derived from factor and mscale
  double mscale = 0;                   // yarn; 0: absent
  double mscale_all_dim = 0;           // yarn; 0: absent
  bool truncate = true;                // yarn
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  int64_t hidden = 0;
  int64_t n_layers = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;
  int64_t vocab = 0;
  int64_t max_positions = 0;
  float rms_norm_eps = 1e-6f;
  bool tied_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  Activation activation = Activation::kSilu;
  RopeConfig rope;
  DType dtype = DType::kF32;     // the checkpoint's torch_dtype, or f32
  std::vector<int32_t> eos_ids;  // generation_config.json's, else config.json's

  int64_t group() const { return n_heads / n_kv_heads; }
};

// INVALID_ARGUMENT naming the key that is missing, of the wrong type or impossible (heads that do
// not divide by KV heads, …); UNIMPLEMENTED naming an architecture, activation or scaling that is
// not supported. `generation_config` may be empty.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config,
                                             std::string_view generation_config);

// Random-weight shapes for benches: "tinyllama-1.1b", "qwen2-0.5b", "llama3-8b", …
absl::StatusOr<ModelConfig> NamedShape(std::string_view name);
std::vector<std::string> ShapeNames();

}  // namespace trireme
