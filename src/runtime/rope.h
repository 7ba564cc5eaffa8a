// Rotary frequencies (Su et al. 2021) with the scalings of Hugging Face's `rope_scaling`:
// modeling_rope_utils.py of transformers 5, in float32 as there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/config.h"

namespace trireme {

// Thread-safe.
class Rope {
 public:
  explicit Rope(const ModelConfig& config);

  int64_t half_dim() const { return static_cast<int64_t>(inverse_.size()); }

  // cos and sin of each token's angles, times the scaling's attention factor. The same bits for a
  // position whatever the others are. Allocates nothing.
  // A token's rotation is a function of its position alone, so that pages never change: `dynamic`
  // uses the frequencies of a sequence that ends at the token (position + 1 tokens).
  //   positions: [T]   cos, sin: [T, D/2]
  void Fill(std::span<const int32_t> positions, float* cos, float* sin) const;

  // [D/2] radians per position; for `dynamic`, up to original_max_positions.
  std::span<const float> inverse_frequencies() const { return inverse_; }
  float attention_factor() const { return attention_factor_; }

 private:
  RopeConfig config_;
  int64_t head_dim_;
  std::vector<float> inverse_;
  float attention_factor_ = 1;
};

}  // namespace trireme
