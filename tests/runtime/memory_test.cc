#include "runtime/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/engine.h"

namespace trireme {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

ModelConfig Llama8B() {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.hidden = 4096;
  config.n_layers = 32;
  config.n_heads = 32;
  config.n_kv_heads = 8;
  config.head_dim = 128;
  config.ffn = 14336;
  config.vocab = 128256;
  return config;
}

MemoryDemand Demand() {
  return {.dtype = DType::kBF16,
          .activations = DType::kBF16,
          .largest = {.n_tokens = 512, .n_rows = 64},
          .kv_tokens = 2048};
}

TEST(MemoryTest, EveryMatrixIsOnOneRank) {
  const ModelConfig config = Llama8B();
  int64_t parameters = 0;
  for (const TensorSpec& tensor : ModelTensors(config)) {
    if (tensor.shape.size() == 2) parameters += tensor.shape[0] * tensor.shape[1];
  }
  for (const Layout& layout : {Layout{}, Layout{.tp = 8}, Layout{.tp = 3, .pp = 2}}) {
    int64_t bytes = 0;
    for (int rank = 0; rank < layout.n_ranks(); ++rank) {
      bytes += NeedOf(config, *Split::Make(config, layout, rank), Demand()).weights;
    }
    if (config.n_kv_heads % layout.tp == 0) {
      EXPECT_EQ(bytes, 2 * parameters) << layout.tp << " " << layout.pp;
    } else {
      EXPECT_GT(bytes, 2 * parameters) << "some KV heads are on two ranks";
    }
  }
}

TEST(MemoryTest, TheKvCacheHoldsItsTokens) {
  const ModelConfig config = Llama8B();
  const MemoryNeed need = NeedOf(config, *Split::Make(config, {}, 0), Demand());
  EXPECT_EQ(need.kv, int64_t{2048} * 2 * 32 * 8 * 128 * 2);
  EXPECT_EQ(need.total(), need.weights + need.step + need.kv);
}

TEST(MemoryTest, TheSmallestLayoutIsTheFirstThatFits) {
  const ModelConfig config = Llama8B();  // 15 GiB of weights
  const auto smallest = [&](int64_t bytes) {
    const auto layout = SmallestLayout(config, Demand(), bytes);
    return layout ? std::make_pair(layout->tp, layout->pp) : std::make_pair(0, 0);
  };
  EXPECT_EQ(smallest(80 * kGiB), std::make_pair(1, 1));
  EXPECT_EQ(smallest(12 * kGiB), std::make_pair(2, 1));
  EXPECT_EQ(smallest(6 * kGiB), std::make_pair(3, 1));
  EXPECT_EQ(smallest(kGiB / 8), std::make_pair(0, 0));
}

TEST(MemoryTest, SaysWhatIsNeededAndWhatWouldDo) {
  const ModelConfig config = Llama8B();
  const Split split = *Split::Make(config, {}, 0);
  EXPECT_TRUE(CheckFits(config, split, Demand(), 24 * kGiB).ok());
  const int64_t needed = NeedOf(config, split, Demand()).total();
  EXPECT_TRUE(CheckFits(config, split, Demand(), needed).ok());
  EXPECT_FALSE(CheckFits(config, split, Demand(), needed - 1).ok());
  const absl::Status status = CheckFits(config, split, Demand(), 12 * kGiB);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr("(14.96 GiB weights, "), HasSubstr("0.25 GiB for 2048 tokens of KV"),
                    HasSubstr("but 12.00 GiB are free; the smallest layout that fits such devices "
                              "is --tp 2 --pp 1")));
}

}  // namespace
}  // namespace trireme
