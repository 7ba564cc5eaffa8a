#include "runtime/step_plan.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(StepPlanTest, PlansSurviveTheWire) {
  StepPlan plan{.sequence_parallel = true, .id = 7};
  plan.tokens = {1, 2, 3};
  plan.positions = {0, 1, 9};
  plan.slots = {16, 17, 40};
  plan.q_starts = {0, 2, 3};
  plan.kv_lens = {2, 10};
  plan.block_table = {1, 2, 2, -1};
  plan.max_blocks = 2;
  plan.dropout = {{0.5f, 3, 0}, {0.5f, 3, 1}, {}};
  plan.samples = {{.row = 2,
                   .params = {.temperature = 0.5f, .seed = 9},
                   .token_index = 4,
                   .banned_ids = {5, 6}}};
  const StepPlan copy = ParsePlan(Serialize(plan));
  EXPECT_EQ(copy.id, 7);
  EXPECT_TRUE(copy.sequence_parallel);
  EXPECT_EQ(copy.tokens, plan.tokens);
  EXPECT_EQ(copy.slots, plan.slots);
  EXPECT_EQ(copy.block_table, plan.block_table);
  ASSERT_EQ(copy.samples.size(), 1u);
  EXPECT_EQ(copy.samples[0].banned_ids, plan.samples[0].banned_ids);
  EXPECT_EQ(copy.samples[0].params.seed, 9u);
  EXPECT_EQ(Serialize(copy), Serialize(plan));
}

TEST(StepPlanDeathTest, CutBytesAreOurBug) {
  std::vector<std::byte> bytes = Serialize(StepPlan{.tokens = {1, 2, 3}});
  bytes.pop_back();
  EXPECT_DEATH(ParsePlan(bytes), "bug at");
}

}  // namespace
}  // namespace trireme
