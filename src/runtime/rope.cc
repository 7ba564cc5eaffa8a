#include "runtime/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace trireme {
namespace {

// Powers and angles are rounded once from float64, so that they do not depend on a CPU's float32
// library; Hugging Face's own float32 powers are within an ulp of these.
float Power(double base, float exponent) {
  return static_cast<float>(
      std::pow(static_cast<double>(static_cast<float>(base)), static_cast<double>(exponent)));
}

// base^(2i/D)
float Wavelength(double base, int64_t i, int64_t head_dim) {
  return Power(base, static_cast<float>(2 * i) / static_cast<float>(head_dim));
}

// The base stretched for a sequence of n_tokens (NTK-aware scaling, bloc97 and emozilla 2023).
float DynamicBase(const RopeConfig& rope, int64_t head_dim, int64_t n_tokens) {
  const float tokens = static_cast<float>(std::max(n_tokens, rope.original_max_positions));
  const float ratio =
      static_cast<float>(rope.factor) * tokens / static_cast<float>(rope.original_max_positions);
  const float stretch = ratio - static_cast<float>(rope.factor - 1);
  const double exponent = static_cast<double>(head_dim) / static_cast<double>(head_dim - 2);
  return static_cast<float>(rope.theta) * Power(stretch, static_cast<float>(exponent));
}

// Llama 3.1: long wavelengths divided by factor, short ones kept, a smooth step between.
float Llama3(const RopeConfig& rope, float inverse) {
  const double original = static_cast<double>(rope.original_max_positions);
  const float longest = static_cast<float>(original / rope.low_freq_factor);
  const float shortest = static_cast<float>(original / rope.high_freq_factor);
  const float factor = static_cast<float>(rope.factor);
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / inverse;
  if (wavelength > longest) return inverse / factor;
  if (wavelength < shortest) return inverse;
  const float smooth =
      (static_cast<float>(original) / wavelength - static_cast<float>(rope.low_freq_factor)) /
      static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * inverse / factor + smooth * inverse;
}

// YaRN (Peng et al. 2023): between dimensions `low` and `high` from the original frequencies to
// those divided by factor.
struct YarnRamp {
  float low;
  float width;

  YarnRamp(const RopeConfig& rope, int64_t head_dim) {
    double first = Dimension(rope, head_dim, rope.beta_fast);
    double last = Dimension(rope, head_dim, rope.beta_slow);
    if (rope.truncate) {
      first = std::floor(first);
      last = std::ceil(last);
    }
    first = std::max(first, 0.0);
    last = std::min(last, static_cast<double>(head_dim - 1));
    if (first == last) last += 0.001;
    low = static_cast<float>(first);
    width = static_cast<float>(last - first);
  }

  // The dimension that turns `rotations` times within the original context.
  static double Dimension(const RopeConfig& rope, int64_t head_dim, double rotations) {
    const double original = static_cast<double>(rope.original_max_positions);
    return static_cast<double>(head_dim) * std::log(original / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  }

  // 1: the original frequency; 0: divided by factor.
  float Keep(int64_t i) const {
    return 1 - std::clamp((static_cast<float>(i) - low) / width, 0.0f, 1.0f);
  }
};

double YarnMscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double YarnAttentionFactor(const RopeConfig& rope) {
  if (rope.attention_factor != 0) return rope.attention_factor;
  if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    return YarnMscale(rope.factor, rope.mscale) / YarnMscale(rope.factor, rope.mscale_all_dim);
  }
  return YarnMscale(rope.factor, 1);
}

}  // namespace

Rope::Rope(const ModelConfig& config) : config_(config.rope), head_dim_(config.head_dim) {
  CHECK(head_dim_ >= 2 && head_dim_ % 2 == 0) << head_dim_;
  if (config_.original_max_positions == 0) config_.original_max_positions = config.max_positions;
  const float factor = static_cast<float>(config_.factor);
  for (int64_t i = 0; i < head_dim_ / 2; ++i) {
    const float wavelength = Wavelength(config_.theta, i, head_dim_);
    const float inverse = 1 / wavelength;
    switch (config_.type) {
      case RopeConfig::Type::kDefault:
      case RopeConfig::Type::kDynamic:
        inverse_.push_back(inverse);
        break;
      case RopeConfig::Type::kLinear:
        inverse_.push_back(inverse / factor);
        break;
      case RopeConfig::Type::kLlama3:
        inverse_.push_back(Llama3(config_, inverse));
        break;
      case RopeConfig::Type::kYarn: {
        const float keep = YarnRamp(config_, head_dim_).Keep(i);
        inverse_.push_back(1 / (factor * wavelength) * (1 - keep) + inverse * keep);
        break;
      }
    }
  }
  if (config_.type == RopeConfig::Type::kYarn) {
    attention_factor_ = static_cast<float>(YarnAttentionFactor(config_));
  }
}

void Rope::Fill(std::span<const int32_t> positions, float* cos, float* sin) const {
  for (const int32_t position : positions) {
    const bool stretched =
        config_.type == RopeConfig::Type::kDynamic && position >= config_.original_max_positions;
    const float base = stretched ? DynamicBase(config_, head_dim_, int64_t{position} + 1) : 0;
    for (int64_t i = 0; i < half_dim(); ++i) {
      const float inverse = stretched ? 1 / Wavelength(base, i, head_dim_) : inverse_[i];
      const double angle = static_cast<double>(static_cast<float>(position) * inverse);
      *cos++ = static_cast<float>(std::cos(angle)) * attention_factor_;
      *sin++ = static_cast<float>(std::sin(angle)) * attention_factor_;
    }
  }
}

}  // namespace trireme
