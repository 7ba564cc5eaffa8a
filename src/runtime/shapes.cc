// NamedShape: the shapes of well-known models.
#include "base/str.h"
#include "runtime/config.h"

namespace trireme {
namespace {

struct Shape {
  const char* name;
  int64_t hidden, n_layers, n_heads, n_kv_heads, head_dim, ffn, vocab, max_positions;
  bool tied;
  double theta;
};

constexpr Shape kShapes[] = {
    // name            hidden layers heads kv  D    ffn    vocab   positions tied  theta
    {"tinyllama-1.1b", 2048, 22, 32, 4, 64, 5632, 32000, 2048, false, 1e4},
    {"stories15m", 288, 6, 6, 6, 48, 768, 32000, 256, true, 1e4},
    {"llama2-7b", 4096, 32, 32, 32, 128, 11008, 32000, 4096, false, 1e4},
    {"llama3-8b", 4096, 32, 32, 8, 128, 14336, 128256, 8192, false, 5e5},
    {"llama3-70b", 8192, 80, 64, 8, 128, 28672, 128256, 8192, false, 5e5},
    {"llama3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, 131072, true, 5e5},
    {"mistral-7b", 4096, 32, 32, 8, 128, 14336, 32000, 32768, false, 1e4},
    {"qwen2-0.5b", 896, 24, 14, 2, 64, 4864, 151936, 131072, true, 1e6},
    {"tiny", 64, 2, 4, 2, 16, 176, 512, 8192, false, 1e4},  // no model: to try a bench out
};

}  // namespace

absl::StatusOr<ModelConfig> NamedShape(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (name != shape.name) continue;
    ModelConfig c;
    c.architecture = "LlamaForCausalLM";
    c.hidden = shape.hidden;
    c.n_layers = shape.n_layers;
    c.n_heads = shape.n_heads;
    c.n_kv_heads = shape.n_kv_heads;
    c.head_dim = shape.head_dim;
    c.ffn = shape.ffn;
    c.vocab = shape.vocab;
    c.max_positions = shape.max_positions;
    c.tied_embeddings = shape.tied;
    c.rope.theta = shape.theta;
    c.rope.original_max_positions = shape.max_positions;
    c.rms_norm_eps = 1e-5f;
    c.dtype = DType::kBF16;
    if (name == "mistral-7b") {
      c.architecture = "MistralForCausalLM";
      c.window = 4096;
    }
    if (name == "qwen2-0.5b") {
      c.rms_norm_eps = 1e-6f;
      c.attention_bias = true;  // the original has none on o
    }
    if (name == "llama3.2-1b") {
      c.rope.type = RopeConfig::Type::kLlama3;
      c.rope.factor = 32;
      c.rope.low_freq_factor = 1;
      c.rope.high_freq_factor = 4;
      c.rope.original_max_positions = 8192;
    }
    return c;
  }
  return NotFound("no shape ", std::string(name), "; the shapes are ", Join(ShapeNames(), ", "));
}

std::vector<std::string> ShapeNames() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.push_back(shape.name);
  return names;
}

}  // namespace trireme
