#include "runtime/memory.h"

#include <cstdio>

#include "runtime/engine.h"

namespace trireme {
namespace {

constexpr int kMostRanks = 1024;
// The CUDA backend's workspaces and staging, kernels, and what libraries allocate as they run.
constexpr int64_t kBackendBytes = int64_t{256} << 20;

bool Fits(const ModelConfig& config, const Layout& layout, const MemoryDemand& demand,
          int64_t bytes) {
  for (int rank = 0; rank < layout.n_ranks(); ++rank) {
    const auto split = Split::Make(config, layout, rank, demand.reduction);
    if (!split.ok() || NeedOf(config, *split, demand).total() > bytes) return false;
  }
  return true;
}

}  // namespace

MemoryNeed NeedOf(const ModelConfig& config, const Split& split, const MemoryDemand& demand) {
  const ArenaBytes arenas = Arenas(config, split, demand.largest, demand.activations);
  const int64_t blocks = (demand.kv_tokens + kKvBlockSize - 1) / kKvBlockSize;
  return {.weights = WeightBytes(config, split, demand.dtype),
          .step = static_cast<int64_t>(arenas.step + arenas.attention + arenas.mlp) + kBackendBytes,
          .kv = blocks * Engine::KvBlockBytes(config, split, demand.activations)};
}

std::optional<Layout> SmallestLayout(const ModelConfig& config, const MemoryDemand& demand,
                                     int64_t bytes) {
  for (int n = 1; n <= kMostRanks; ++n) {
    for (int pp = 1; pp <= n; ++pp) {
      const Layout layout = {.tp = n / pp, .pp = pp};
      if (layout.n_ranks() == n && Fits(config, layout, demand, bytes)) return layout;
    }
  }
  return std::nullopt;
}

std::string GibiBytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (int64_t{1} << 30));
  return text;
}

absl::Status CheckFits(const ModelConfig& config, const Split& split, const MemoryDemand& demand,
                       int64_t free) {
  const MemoryNeed need = NeedOf(config, split, demand);
  if (need.total() <= free) return absl::OkStatus();
  const std::optional<Layout> layout = SmallestLayout(config, demand, free);
  return FailedPrecondition(
      "a rank needs ", GibiBytes(need.total()), " of its device (", GibiBytes(need.weights),
      " weights, ", GibiBytes(need.step), " for a step, ", GibiBytes(need.kv), " for ",
      demand.kv_tokens, " tokens of KV cache), but ", GibiBytes(free), " are free; ",
      layout ? StrCat("the smallest layout that fits such devices is --tp ", layout->tp, " --pp ",
                      layout->pp)
             : StrCat("no layout of up to ", kMostRanks, " ranks fits such devices"));
}

}  // namespace trireme
