// What a layer moves, counted at the communicator, against the formulas.
#include <gtest/gtest.h>

#include "base/file.h"
#include "harness.h"

namespace trireme {
namespace {

constexpr int64_t kHidden = 32, kLayers = 2;  // of the model below
constexpr int64_t kFew = 2, kMany = 60;       // tokens: sums are gathered, or finished in slices

int64_t MessageBytes(int64_t n_tokens) { return n_tokens * kHidden * 4; }

// One prefill and one draw: what rank 0 gave to the others of its group, without the sampler's
// exchange.
Traffic PrefillTraffic(int tp, SequenceParallel sp, DType activations, int64_t n_tokens) {
  ReplicaOptions options;
  options.model_dir = GoldenModel("gqa_f32");  // 4 heads: R = 4 chunks
  options.activations = activations;
  options.kv_cache_bytes = 1 << 20;
  options.max_rows = 1;
  options.max_batch_tokens = 64;
  options.layout = {.tp = tp, .sequence_parallel = sp};
  SequenceRequest request{.id = 1, .sampling = {.temperature = 0}, .max_tokens = 1};
  for (int i = 0; i < n_tokens; ++i) request.prompt_ids.push_back(i);
  Traffic traffic = RunOnThreads(options, {{request}}).traffic;
  traffic.gather_bytes -= (tp - 1) * static_cast<int64_t>(sizeof(Scored));
  return traffic;
}

TEST(TrafficTest, TensorParallelismMovesTwoAllReducesALayer) {
  const int64_t n_messages = 2 * kLayers + 1;  // and the embedding's
  for (int tp : {2, 4}) {
    // Many tokens: what Megatron moves, 2(n-1)/n of a float32 message.
    EXPECT_EQ(PrefillTraffic(tp, SequenceParallel::kOff, DType::kF32, kMany).reduce_bytes,
              n_messages * MessageBytes(kMany) * 2 * (tp - 1) / tp);
    // Few: (n-1) parts of float32, whatever the activations are; one exchange instead of two.
    for (DType activations : {DType::kF32, DType::kBF16}) {
      EXPECT_EQ(PrefillTraffic(tp, SequenceParallel::kOff, activations, kFew).reduce_bytes,
                n_messages * MessageBytes(kFew) * (tp - 1));
    }
  }
  // Three ranks on four chunks: rank 0 holds chunk 0 alone, one part.
  EXPECT_EQ(PrefillTraffic(3, SequenceParallel::kOff, DType::kF32, kFew).reduce_bytes,
            n_messages * MessageBytes(kFew) * 2);
}

TEST(TrafficTest, SequenceParallelismMovesMegatronsBytes) {
  const int64_t message = MessageBytes(kMany);
  for (int tp : {2, 4}) {
    const Traffic traffic = PrefillTraffic(tp, SequenceParallel::kOn, DType::kF32, kMany);
    const int64_t share = message * (tp - 1) / tp;
    EXPECT_EQ(traffic.reduce_bytes, (2 * kLayers + 1) * share) << tp;  // reduce-scatter
    EXPECT_EQ(traffic.gather_bytes, (2 * kLayers + 1) * share) << tp;  // all-gather, and the head's
  }
  // bfloat16 activations halve the gathers; sums stay float32.
  const Traffic bf16 = PrefillTraffic(2, SequenceParallel::kOn, DType::kBF16, kMany);
  EXPECT_EQ(bf16.reduce_bytes, (2 * kLayers + 1) * message / 2);
  EXPECT_EQ(bf16.gather_bytes, (2 * kLayers + 1) * message / 4);
}

}  // namespace
}  // namespace trireme
