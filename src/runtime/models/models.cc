// The list of architectures: one line each.
#include <string_view>

#include "runtime/model.h"
#include "runtime/models/llama.h"

namespace trireme {
namespace {

struct Family {
  Architecture architecture;
  std::vector<TensorSpec> (*tensors)(const ModelConfig&);
  int64_t (*weight_bytes)(const ModelConfig&, const Split&, DType);
  ArenaBytes (*arenas)(const ModelConfig&, const Split&, const StepSize&, DType);
  absl::StatusOr<std::unique_ptr<Model>> (*load)(const ModelConfig&, const TensorStore&, Ops&,
                                                 const Split&, const ModelOptions&,
                                                 const LoadProgress&);
};

constexpr char kMistralDefaults[] =
    R"({"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096})";

constexpr Family kFamilies[] = {
    {{"LlamaForCausalLM", "llama"}, LlamaTensors, LlamaWeightBytes, LlamaArenas, LoadLlama},
    {{"MistralForCausalLM", "mistral", kMistralDefaults},
     LlamaTensors,
     LlamaWeightBytes,
     LlamaArenas,
     LoadLlama},
};

const Family& Find(const ModelConfig& config) {
  for (const Family& family : kFamilies) {
    if (family.architecture.name == config.architecture) return family;
  }
  CHECK(false) << config.architecture << " passed ParseModelConfig but has no model";
  __builtin_unreachable();
}

}  // namespace

std::vector<Architecture> Architectures() {
  std::vector<Architecture> list;
  for (const Family& family : kFamilies) list.push_back(family.architecture);
  return list;
}

std::vector<TensorSpec> ModelTensors(const ModelConfig& config) {
  return Find(config).tensors(config);
}

int64_t WeightBytes(const ModelConfig& config, const Split& split, DType dtype) {
  return Find(config).weight_bytes(config, split, dtype);
}

ArenaBytes Arenas(const ModelConfig& config, const Split& split, const StepSize& largest,
                  DType activations) {
  return Find(config).arenas(config, split, largest, activations);
}

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const ModelConfig& config,
                                                 const TensorStore& store, Ops& ops,
                                                 const Split& split, const ModelOptions& options,
                                                 const LoadProgress& progress) {
  return Find(config).load(config, store, ops, split, options, progress);
}

}  // namespace trireme
