// Whether a model fits its devices, before anything is loaded.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/model.h"

namespace trireme {

// What a rank needs of its device's memory, in bytes.
struct MemoryNeed {
  int64_t weights = 0;
  int64_t step = 0;  // temporaries of the largest step, what libraries take
  int64_t kv = 0;    // the least KV cache

  int64_t total() const { return weights + step + kv; }
};

// What the need follows from, besides the layout.
struct MemoryDemand {
  DType dtype = DType::kF32;  // of the weights
  DType activations = DType::kF32;
  StepSize largest;
  int64_t kv_tokens = 0;  // the least that the KV cache has to hold
  Reduction reduction = Reduction::kExact;
};

MemoryNeed NeedOf(const ModelConfig& config, const Split& split, const MemoryDemand& demand);

// The layout of fewest ranks, of these the one of fewest stages, in which every rank needs at most
// `bytes`. Nothing where none of up to 1024 ranks does.
std::optional<Layout> SmallestLayout(const ModelConfig& config, const MemoryDemand& demand,
                                     int64_t bytes);

// FAILED_PRECONDITION where the rank needs more than the `free` bytes of its device, with the
// numbers and the smallest layout for devices like it.
absl::Status CheckFits(const ModelConfig& config, const Split& split, const MemoryDemand& demand,
                       int64_t free);

// "15.2 GiB"
std::string GibiBytes(int64_t bytes);

}  // namespace trireme
