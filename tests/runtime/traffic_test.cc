// What a layer moves, counted at the communicator, against the formulas.
#include <gtest/gtest.h>

#include "base/file.h"
#include "harness.h"

namespace trireme {
namespace {

constexpr int64_t kHidden = 32, kLayers = 2, kTokens = 60;  // of the model and request below

// One prefill of kTokens tokens and one draw: what rank 0 gave to the others of its group, without
// the sampler's exchange.
Traffic PrefillTraffic(int tp, SequenceParallel sp, DType activations) {
  ReplicaOptions options;
  options.model_dir = GoldenModel("gqa_f32");  // 4 heads: R = 4 chunks
  options.activations = activations;
  options.kv_cache_bytes = 1 << 20;
  options.max_rows = 1;
  options.max_batch_tokens = 64;
  options.layout = {.tp = tp, .sequence_parallel = sp};
  SequenceRequest request{.id = 1, .sampling = {.temperature = 0}, .max_tokens = 1};
  for (int i = 0; i < kTokens; ++i) request.prompt_ids.push_back(i);
  Traffic traffic = RunOnThreads(options, {{request}}).traffic;
  traffic.gather_bytes -= (tp - 1) * static_cast<int64_t>(sizeof(Scored));
  return traffic;
}

TEST(TrafficTest, TensorParallelismMovesTwoAllReducesALayer) {
  const int64_t message = kTokens * kHidden * 4;
  const int64_t n_messages = 2 * kLayers + 1;  // and the embedding's
  // Two ranks: what Megatron moves, 2(n-1)/n of a message each.
  const Traffic two = PrefillTraffic(2, SequenceParallel::kOff, DType::kF32);
  EXPECT_EQ(two.reduce_bytes, n_messages * message);
  EXPECT_EQ(two.gather_bytes, 0);
  // Four ranks: small messages are gathered, (n-1) float32 parts each, whatever the activations are.
  EXPECT_EQ(PrefillTraffic(4, SequenceParallel::kOff, DType::kF32).reduce_bytes,
            3 * n_messages * message);
  EXPECT_EQ(PrefillTraffic(4, SequenceParallel::kOff, DType::kBF16).reduce_bytes,
            3 * n_messages * message);
  // Three ranks on four chunks: rank 0 holds chunk 0 alone, one part.
  EXPECT_EQ(PrefillTraffic(3, SequenceParallel::kOff, DType::kF32).reduce_bytes,
            2 * n_messages * message);
}

TEST(TrafficTest, SequenceParallelismMovesMegatronsBytes) {
  const int64_t message = kTokens * kHidden * 4;
  for (int tp : {2, 4}) {
    const Traffic traffic = PrefillTraffic(tp, SequenceParallel::kOn, DType::kF32);
    const int64_t share = message * (tp - 1) / tp;
    EXPECT_EQ(traffic.reduce_bytes, (2 * kLayers + 1) * share) << tp;  // reduce-scatter
    EXPECT_EQ(traffic.gather_bytes, (2 * kLayers + 1) * share) << tp;  // all-gather, and the head's
  }
  // bfloat16 activations halve the gathers; sums stay float32.
  const Traffic bf16 = PrefillTraffic(2, SequenceParallel::kOn, DType::kBF16);
  EXPECT_EQ(bf16.reduce_bytes, (2 * kLayers + 1) * message / 2);
  EXPECT_EQ(bf16.gather_bytes, (2 * kLayers + 1) * message / 4);
}

}  // namespace
}  // namespace trireme
