// Steps on an asynchronous device, emulated: what the host enqueues, and when it waits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cuda_runtime.h"
#include "tests/runtime/harness.h"

namespace trireme {
namespace {

ReplicaOptions Options() {
  ReplicaOptions options;
  options.model_dir = GoldenModel("gqa_f32");
  options.device = DeviceKind::kCuda;
  options.kv_cache_bytes = 1 << 20;
  options.max_rows = 6;
  options.max_batch_tokens = 64;
  options.threads = 1;
  return options;
}

// n sequences of one block each that decode at `position`; ids are fed from the last plan, or
// given.
StepPlan Decode(int64_t id, int32_t n, int32_t position, bool fed, float top_p = 1) {
  StepPlan plan{.id = id, .max_blocks = 1};
  plan.q_starts = {0};
  for (int32_t i = 0; i < n; ++i) {
    plan.tokens.push_back(fed ? ~i : 3 + i);
    plan.positions.push_back(position);
    plan.slots.push_back(static_cast<int32_t>(i * kKvBlockSize) + position);
    plan.q_starts.push_back(i + 1);
    plan.kv_lens.push_back(position + 1);
    plan.block_table.push_back(i);
    plan.samples.push_back(
        {.row = i,
         .params = {.temperature = 0.9f, .top_p = top_p, .seed = static_cast<uint64_t>(i)},
         .token_index = static_cast<uint32_t>(position)});
  }
  return plan;
}

class CudaEngineTest : public testing::Test {
 protected:
  CudaEngineTest() : world_(MakeSingleWorld()) {
    auto rank = ReplicaRank::Load(Options(), *world_);
    EXPECT_TRUE(rank.ok()) << rank.status();
    rank_ = std::move(*rank);
  }
  Engine& engine() { return rank_->engine(); }

  std::unique_ptr<World> world_;
  std::unique_ptr<ReplicaRank> rank_;
};

TEST_F(CudaEngineTest, AStepNeitherAllocatesNorWaits) {
  for (int64_t id : {0, 1}) engine().Run(Decode(id, 5, 0, false));  // the second one is recorded
  const emulator::Counts before = emulator::CountsSoFar();
  engine().Start(Decode(2, 6, 1, false));  // rows padded alike
  engine().Start(Decode(3, 6, 2, true, 0.9f));
  const emulator::Counts after = emulator::CountsSoFar();
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.questions, before.questions);
  EXPECT_EQ(after.graphs_made, before.graphs_made);
  EXPECT_EQ(after.graphs_launched, before.graphs_launched + 2);
  EXPECT_EQ(engine().Finish()->ids.size(), 6u);
  EXPECT_EQ(engine().Finish()->ids.size(), 6u);
}

// Fed ids, padded rows and replays give what the host's own ids give, one sequence at a time.
TEST_F(CudaEngineTest, FedStepsAreTheStepsOfTheirIds) {
  constexpr int32_t kSteps = 6;
  std::vector<std::vector<int32_t>> alone(5);
  for (int32_t i = 0; i < 5; ++i) {
    int32_t token = 3 + i;
    for (int32_t t = 0; t < kSteps; ++t) {
      StepPlan plan = Decode(t, 5, t, false);
      const auto at = static_cast<size_t>(i);
      StepPlan one{.id = t, .max_blocks = 1};
      one.tokens = {token};
      one.positions = {t};
      one.slots = {plan.slots[at]};
      one.q_starts = {0, 1};
      one.kv_lens = {t + 1};
      one.block_table = {i};
      one.samples = {plan.samples[at]};
      one.samples[0].row = 0;
      token = engine().Run(one)->ids[0];
      alone[at].push_back(token);
    }
  }
  for (int32_t t = 0; t < kSteps; ++t) {
    engine().Start(Decode(t, 5, t, t > 0));
    if (t == 0) continue;
    const std::vector<int32_t> ids = engine().Finish()->ids;
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(ids[i], alone[i][static_cast<size_t>(t - 1)]) << t;
  }
  engine().Finish();
}

int64_t FreeBytes() {
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return static_cast<int64_t>(free);
}

// Its share of what is free after the largest step has run.
TEST(CudaMemoryTest, TheKvCacheTakesItsShareOfWhatIsFree) {
  auto world = MakeSingleWorld();
  ReplicaOptions options = Options();
  options.kv_cache_bytes = 0;
  options.activations = DType::kF32;
  options.gpu_memory_utilization = 500e3 / static_cast<double>(FreeBytes());
  const auto rank = ReplicaRank::Load(options, *world);
  ASSERT_TRUE(rank.ok()) << rank.status();
  const int64_t block_bytes =
      Engine::KvBlockBytes((*rank)->config(), (*rank)->split(), DType::kF32);
  const int64_t kv = (*rank)->scheduler_options().n_blocks * block_bytes;
  const auto share =
      static_cast<int64_t>(options.gpu_memory_utilization * static_cast<double>(FreeBytes() + kv));
  EXPECT_LE(kv, share);
  EXPECT_GT(kv, share - 2 * block_bytes);
}

}  // namespace
}  // namespace trireme
