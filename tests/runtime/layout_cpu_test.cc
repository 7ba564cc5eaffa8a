// Layouts on the CPU, and what only the CPU has.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "layouts.h"

namespace trireme {

std::vector<Case> LayoutCases() {
  return {{"gqa_f32", DType::kF32},    {"gqa_8_2_eps", DType::kBF16},
          {"heads_12_3", DType::kF32}, {"heads_6_2_sharded", DType::kF32},
          {"biases", DType::kBF16},    {"austen", DType::kF32},
          {"austen", DType::kBF16},    {"mha_f16", DType::kF16},
          {"mistral", DType::kF32}};
}

namespace {

// A named test of its own, because it has nothing to compare elsewhere.
TEST(InstructionSets, SameBitsOnAvx2AsOnAvx512) {
  if (CpuTargetName(true) != "AVX-512") {
    GTEST_SKIP() << "this CPU has no AVX-512: AVX2 would be compared with itself";
  }
  for (const Case& c : LayoutCases()) {
    ReplicaOptions options = Base(c);
    options.avx512 = false;
    ExpectSameBits(RunOnThreads(options, Requests()), Reference(c), c.model);
  }
}

TEST(LayoutLimits, EveryHeadItsOwnRankAndEveryLayerItsOwnStage) {
  const Case c{"austen", DType::kF32};
  ReplicaOptions options = Base(c);
  options.layout = {.tp = 8, .pp = 6};
  ExpectSameBits(RunOnThreads(options, Requests()), Reference(c), "tp 8 pp 6");
}

// With more ranks than R chunks the logits are near, the bits need not be the same.
TEST(LayoutLimits, MoreRanksThanChunks) {
  const Case c{"heads_12_3", DType::kF32};
  ReplicaOptions options = Base(c);
  options.layout.tp = 11;  // R is 8
  const Outcome outcome = RunOnThreads(options, Requests());
  for (const auto& [key, logits] : Reference(c).logits) {
    const std::vector<float>& mine = outcome.logits.at(key);
    for (size_t v = 0; v < logits.size(); ++v) {
      if (std::isinf(logits[v]) || std::isinf(mine[v])) continue;  // masked by a filter
      ASSERT_NEAR(mine[v], logits[v], 1e-4) << key.first << "/" << key.second;
    }
  }
}

}  // namespace
}  // namespace trireme
