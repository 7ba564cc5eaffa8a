// LLaMA (Touvron et al. 2023): pre-norm decoder, rotary positions, grouped-query attention, SwiGLU;
// and Mistral (Jiang et al. 2023), which has a sliding window besides.
#pragma once

#include "runtime/model.h"

namespace trireme {

std::vector<TensorSpec> LlamaTensors(const ModelConfig& config);

int64_t LlamaWeightBytes(const ModelConfig& config, const Split& split, DType dtype);
ArenaBytes LlamaArenas(const ModelConfig& config, const Split& split, const StepSize& largest,
                       DType activations);

absl::StatusOr<std::unique_ptr<Model>> LoadLlama(const ModelConfig& config,
                                                 const TensorStore& store, Ops& ops,
                                                 const Split& split, const ModelOptions& options,
                                                 const LoadProgress& progress);

}  // namespace trireme
