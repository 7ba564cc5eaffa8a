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
  plan.samples = {
      {.row = 2, .params = {.temperature = 0.5f, .seed = 9}, .choice = 0, .token_index = 4}};
  plan.edits = {{.row = 0, .id = 5, .bias = -1}, {.row = 0, .id = 6, .repetition = 2}};
  const StepPlan copy = ParsePlan(Serialize(plan));
  EXPECT_EQ(copy.id, 7);
  EXPECT_TRUE(copy.sequence_parallel);
  EXPECT_EQ(copy.tokens, plan.tokens);
  EXPECT_EQ(copy.slots, plan.slots);
  EXPECT_EQ(copy.block_table, plan.block_table);
  ASSERT_EQ(copy.samples.size(), 1u);
  EXPECT_EQ(copy.samples[0].params.seed, 9u);
  ASSERT_EQ(copy.edits.size(), 2u);
  EXPECT_EQ(copy.edits[1].repetition, 2);
  EXPECT_EQ(Serialize(copy), Serialize(plan));
}

TEST(StepPlanTest, ResultsSurviveTheWire) {
  const StepResult result{.plan_id = 7, .ids = {3, 4}, .logprobs = {{-0.5f, 3}, {-0.25f, 9}}};
  const StepResult copy = ParseResult(Serialize(result));
  EXPECT_EQ(copy.plan_id, 7);
  EXPECT_EQ(copy.ids, result.ids);
  ASSERT_EQ(copy.logprobs.size(), 2u);
  EXPECT_EQ(copy.logprobs[1].score, -0.25f);
  EXPECT_EQ(copy.logprobs[1].id, 9);
}

TEST(StepPlanDeathTest, CutBytesAreOurBug) {
  std::vector<std::byte> bytes = Serialize(StepPlan{.tokens = {1, 2, 3}});
  bytes.pop_back();
  EXPECT_DEATH(ParsePlan(bytes), "bug at");
}

}  // namespace
}  // namespace trireme
