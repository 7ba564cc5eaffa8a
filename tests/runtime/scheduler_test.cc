#include "runtime/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SchedulerOptions Options() {
  return {.n_blocks = 16,
          .block_size = 4,
          .max_rows = 4,
          .max_batch_tokens = 16,
          .context_length = 64,
          .vocab_size = 100};
}

SequenceRequest Request(uint64_t id, int n_prompt, int max_tokens) {
  SequenceRequest request{.id = id, .max_tokens = max_tokens};
  for (int i = 0; i < n_prompt; ++i) {
    request.prompt_ids.push_back(static_cast<int32_t>((id * 7 + static_cast<uint64_t>(i)) % 90));
  }
  return request;
}

StepResult Answer(const StepPlan& plan, int32_t id) {
  return {.plan_id = plan.id, .ids = std::vector<int32_t>(plan.samples.size(), id)};
}

TEST(SchedulerTest, PrefillsInChunksThenDecodes) {
  Scheduler scheduler(Options());
  scheduler.Submit(Request(1, 20, 3));
  auto plan = scheduler.Next();
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->n_tokens(), 16);
  EXPECT_TRUE(plan->samples.empty());
  scheduler.Commit(Answer(*plan, 5));
  plan = scheduler.Next();
  EXPECT_EQ(plan->n_tokens(), 4);
  ASSERT_EQ(plan->samples.size(), 1u);
  EXPECT_EQ(plan->samples[0].row, 3);
  EXPECT_THAT(plan->positions, ElementsAre(16, 17, 18, 19));
  scheduler.Commit(Answer(*plan, 5));
  plan = scheduler.Next();
  EXPECT_THAT(plan->tokens, ElementsAre(5));
  EXPECT_EQ(plan->samples[0].token_index, 1u);
  scheduler.Commit(Answer(*plan, 6));
  scheduler.Commit(Answer(*scheduler.Next(), 7));

  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.deltas.size(), 1u);
  EXPECT_THAT(report.deltas[0].ids, ElementsAre(5, 6, 7));
  EXPECT_EQ(report.deltas[0].finish, FinishReason::kLength);
  EXPECT_EQ(report.stats.kv_blocks_used, 0);
  EXPECT_FALSE(scheduler.has_work());
}

TEST(SchedulerTest, DecodesBeforePrefill) {
  Scheduler scheduler(Options());
  scheduler.Submit(Request(1, 3, 5));
  scheduler.Commit(Answer(*scheduler.Next(), 5));
  scheduler.Submit(Request(2, 30, 5));
  const auto plan = scheduler.Next();
  EXPECT_EQ(plan->tokens[0], 5);
  EXPECT_THAT(plan->q_starts, ElementsAre(0, 1, 16));
}

TEST(SchedulerTest, StopIdsEndASequenceButNotBeforeMinTokens) {
  Scheduler scheduler(Options());
  SequenceRequest request = Request(1, 3, 9);
  request.stop_ids = {42, 42};
  request.min_tokens = 1;
  scheduler.Submit(request);
  auto plan = scheduler.Next();
  ASSERT_EQ(plan->edits.size(), 1u);
  EXPECT_EQ(plan->edits[0].id, 42);
  EXPECT_EQ(plan->edits[0].bias, -HUGE_VALF);
  scheduler.Commit(Answer(*plan, 7));
  plan = scheduler.Next();
  EXPECT_TRUE(plan->edits.empty());
  scheduler.Commit(Answer(*plan, 42));
  const StepReport report = scheduler.TakeReport();
  EXPECT_THAT(report.deltas[0].ids, ElementsAre(7));
  EXPECT_EQ(report.deltas[0].finish, FinishReason::kStop);
  EXPECT_EQ(report.deltas[0].matched_stop_id, 42);
}

TEST(SchedulerTest, PenalisedRowsSitOutUntilTheirIdIsKnown) {
  SchedulerOptions options = Options();
  options.ahead = true;
  Scheduler scheduler(options);
  SequenceRequest request = Request(1, 2, 9);  // of ids 7 and 8
  request.penalties = {.repetition = 2, .presence = 0.5f, .frequency = 0.25f};
  request.logit_bias = {{7, 3}};
  request.emitted_ids = {40, 8, 40};
  scheduler.Submit(request);
  const auto first = scheduler.Next();
  const auto edit = [](const StepPlan& plan, int32_t id) {
    for (const LogitEdit& e : plan.edits) {
      if (e.id == id) return std::vector<float>{e.bias, e.repetition, e.penalty};
    }
    return std::vector<float>();
  };
  EXPECT_EQ(first->edits.size(), 3u);
  EXPECT_THAT(edit(*first, 7), ElementsAre(3, 2, 0));
  EXPECT_THAT(edit(*first, 8), ElementsAre(0, 2, 0.75f));
  EXPECT_THAT(edit(*first, 40), ElementsAre(0, 2, 1));
  EXPECT_FALSE(scheduler.Next()) << "the id under way counts";

  scheduler.Submit(Request(2, 3, 9));
  const auto other = scheduler.Next();
  EXPECT_EQ(other->n_tokens(), 3) << "others need not wait";
  EXPECT_TRUE(other->edits.empty());
  scheduler.Commit(Answer(*first, 41));
  const auto next = scheduler.Next();
  EXPECT_THAT(next->tokens, ElementsAre(41, ~0));
  EXPECT_EQ(next->edits.size(), 4u);
  EXPECT_THAT(edit(*next, 41), ElementsAre(0, 2, 0.75f));
}

// What a plan's samples would get: of row i of prompt position p the logprob -p.
StepResult AnswerWithLogprobs(const StepPlan& plan, int32_t id) {
  StepResult result = Answer(plan, id);
  for (const SampleRow& row : plan.samples) {
    for (int32_t i = 0; i <= row.n_top; ++i) {
      const auto position = static_cast<float>(plan.positions[row.row]);
      result.logprobs.push_back({-position - static_cast<float>(i) / 8, i == 2 ? -1 : 50 + i});
    }
  }
  return result;
}

TEST(SchedulerTest, LogprobsComeWithTheirIds) {
  Scheduler scheduler(Options());
  SequenceRequest request = Request(1, 3, 2);
  request.logprobs = 2;
  scheduler.Submit(request);
  scheduler.Submit(Request(2, 3, 2));
  request = Request(3, 2, 2);
  request.logprobs = 0;
  scheduler.Submit(request);
  for (int i = 0; i < 2; ++i) {
    const auto plan = scheduler.Next();
    scheduler.Commit(AnswerWithLogprobs(*plan, 7));
  }
  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.deltas.size(), 3u);
  const std::vector<TokenLogprobs> expected = {{.logprob = -2, .top = {{51, -2.125f}}},
                                               {.logprob = -3, .top = {{51, -3.125f}}}};
  EXPECT_EQ(report.deltas[0].logprobs, expected);  // there were no more than one to tell of
  EXPECT_TRUE(report.deltas[1].logprobs.empty());
  EXPECT_EQ(report.deltas[2].logprobs,
            (std::vector<TokenLogprobs>{{.logprob = -1}, {.logprob = -2}}));
}

// A step has max_rows rows of logits, of which each token of the prompt takes one; blocks that are
// cached are computed all the same.
TEST(SchedulerTest, PromptLogprobsTakeARowOfEachToken) {
  Scheduler scheduler(Options());
  scheduler.Submit(Request(1, 10, 1));
  scheduler.Commit(Answer(*scheduler.Next(), 5));
  scheduler.TakeReport();
  scheduler.Submit(Request(2, 3, 9));
  scheduler.Commit(Answer(*scheduler.Next(), 5));

  SequenceRequest request = Request(1, 10, 2);
  request.id = 3;
  request.prompt_logprobs = 0;
  scheduler.Submit(request);
  std::vector<int32_t> given;
  for (const size_t n_rows : {4u, 4u, 4u, 2u}) {  // one of which the other decodes
    const auto plan = scheduler.Next();
    EXPECT_EQ(plan->samples.size(), n_rows);
    for (const SampleRow& row : plan->samples) {
      if (row.given >= 0) given.push_back(row.given);
    }
    scheduler.Commit(AnswerWithLogprobs(*plan, 7));
  }
  EXPECT_EQ(given, std::vector<int32_t>(request.prompt_ids.begin() + 1, request.prompt_ids.end()));
  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.deltas.size(), 2u);
  const SequenceDelta& delta = report.deltas[1];
  EXPECT_THAT(delta.ids, ElementsAre(7));
  EXPECT_EQ(delta.cached_tokens, 0);
  ASSERT_EQ(delta.prompt_logprobs.size(), 9u);
  for (size_t i = 0; i < 9; ++i) {
    EXPECT_EQ(delta.prompt_logprobs[i].logprob, -static_cast<float>(i));
  }
  scheduler.Commit(Answer(*scheduler.Next(), 8));
  EXPECT_TRUE(scheduler.TakeReport().deltas[1].prompt_logprobs.empty()) << "told once";
}

TEST(SchedulerTest, ReplaysTellNoPromptLogprobs) {
  Scheduler scheduler(Options());
  SequenceRequest request = Request(1, 10, 9);
  request.prompt_logprobs = 0;
  request.emitted_ids = {5};
  scheduler.Submit(request);
  const auto plan = scheduler.Next();
  EXPECT_EQ(plan->n_tokens(), 11);
  EXPECT_EQ(plan->samples.size(), 1u);
}

TEST(SchedulerTest, SharesPrefixesAndSaysSo) {
  Scheduler scheduler(Options());
  SequenceRequest first = Request(1, 10, 1);
  scheduler.Submit(first);
  scheduler.Commit(Answer(*scheduler.Next(), 5));
  scheduler.TakeReport();
  first.id = 2;
  scheduler.Submit(first);
  const auto plan = scheduler.Next();
  EXPECT_EQ(plan->n_tokens(), 2);  // two full blocks of four were there
  EXPECT_THAT(plan->positions, ElementsAre(8, 9));
  scheduler.Commit(Answer(*plan, 5));
  EXPECT_EQ(scheduler.TakeReport().deltas[0].cached_tokens, 8);
}

// What keys and values depend on, and the salt, part the cache; each finds its own again.
TEST(SchedulerTest, SharesNoPrefixAcrossDropoutSeedOrSalt) {
  const std::string bytes_of_half("\0\0\0?", 4), bytes_of_seed("\1\0\0\0\0\0\0\0", 8);
  struct Keyed {
    float dropout;
    uint64_t seed;
    std::string salt;
  };
  const std::vector<Keyed> kinds = {{0, 1, ""},
                                    {0.5f, 1, ""},
                                    {0.25f, 1, ""},
                                    {0.5f, 2, ""},
                                    {0, 1, "tenant"},
                                    {0, 1, "other tenant"},
                                    {0.5f, 1, "tenant"},
                                    {0, 1, bytes_of_half + bytes_of_seed},
                                    {0, 1, std::string(1, '\0') + bytes_of_half + bytes_of_seed}};
  SchedulerOptions options = Options();
  options.n_blocks = 64;
  Scheduler scheduler(options);
  uint64_t id = 0;
  for (int32_t n_cached : {0, 8}) {
    for (const Keyed& kind : kinds) {
      SequenceRequest request = Request(1, 10, 1);
      request.id = ++id;
      request.dropout = kind.dropout;
      request.dropout_seed = kind.seed;
      request.cache_salt = kind.salt;
      scheduler.Submit(request);
      const auto plan = scheduler.Next();
      EXPECT_EQ(plan->n_tokens(), 10 - n_cached) << "sequence " << id;
      scheduler.Commit(Answer(*plan, 5));
    }
  }
  // Without dropout its seed changes nothing.
  SequenceRequest request = Request(1, 10, 1);
  request.id = ++id;
  request.dropout_seed = 77;
  scheduler.Submit(request);
  EXPECT_EQ(scheduler.Next()->n_tokens(), 2);
}

TEST(SchedulerTest, StepsOfEnoughTokensAreSequenceParallel) {
  SchedulerOptions options = Options();
  options.sequence_parallel_tokens = 12;
  options.prefix_cache = false;
  Scheduler scheduler(options);
  uint64_t id = 0;
  for (int n_tokens : {11, 12, 16, 1}) {
    scheduler.Submit(Request(++id, n_tokens, 1));
    const auto plan = scheduler.Next();
    EXPECT_EQ(plan->n_tokens(), n_tokens);
    EXPECT_EQ(plan->sequence_parallel, n_tokens >= 12) << n_tokens << " tokens";
    scheduler.Commit(Answer(*plan, 5));
  }
}

TEST(SchedulerTest, PlansIdsThatAreUnderWay) {
  SchedulerOptions options = Options();
  options.ahead = true;
  Scheduler scheduler(options);
  scheduler.Submit(Request(1, 2, 4));
  SequenceRequest stopping = Request(2, 3, 9);
  stopping.stop_ids = {99};
  stopping.min_tokens = 1;
  scheduler.Submit(stopping);
  const auto first = scheduler.Next();
  ASSERT_EQ(first->samples.size(), 2u);
  const auto second = scheduler.Next();
  EXPECT_THAT(second->tokens, ElementsAre(~0, ~1));
  EXPECT_THAT(second->positions, ElementsAre(2, 3));
  EXPECT_EQ(second->samples[0].token_index, 1u);
  EXPECT_EQ(scheduler.n_in_flight(), scheduler.wanted_in_flight());

  scheduler.Commit({.plan_id = first->id, .ids = {11, 21}});
  const auto third = scheduler.Next();
  EXPECT_THAT(third->tokens, ElementsAre(~0, ~1));
  EXPECT_EQ(third->samples[1].token_index, 2u);
  // The second one stops: what is under way for it comes to nothing.
  scheduler.Commit({.plan_id = second->id, .ids = {12, 99}});
  const auto fourth = scheduler.Next();
  EXPECT_THAT(fourth->tokens, ElementsAre(~0));
  EXPECT_THAT(fourth->positions, ElementsAre(4));
  scheduler.Commit({.plan_id = third->id, .ids = {13, 55}});
  EXPECT_FALSE(scheduler.Next()) << "the last id is under way";
  scheduler.Commit({.plan_id = fourth->id, .ids = {14}});
  EXPECT_FALSE(scheduler.has_work());

  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.deltas.size(), 2u);
  EXPECT_THAT(report.deltas[0].ids, ElementsAre(11, 12, 13, 14));
  EXPECT_THAT(report.deltas[1].ids, ElementsAre(21));
  EXPECT_EQ(report.deltas[1].finish, FinishReason::kStop);
  EXPECT_EQ(report.stats.kv_blocks_used, 0);
}

// The prefix tree holds what is known: a block's last id is entered when it has come.
TEST(SchedulerTest, EntersABlockWhenItsLastIdIsKnown) {
  SchedulerOptions options = Options();
  options.ahead = true;
  Scheduler scheduler(options);
  scheduler.Submit(Request(1, 7, 4));
  const auto first = scheduler.Next(), second = scheduler.Next();  // the eighth token is under way
  SequenceRequest longer = Request(2, 1, 1);
  longer.prompt_ids = Request(1, 7, 4).prompt_ids;
  longer.prompt_ids.insert(longer.prompt_ids.end(), {50, 60, 70});
  scheduler.Commit({.plan_id = first->id, .ids = {50}});
  scheduler.Submit(longer);
  const auto third = scheduler.Next();
  EXPECT_THAT(third->tokens, ElementsAre(~0, 60, 70)) << "two blocks of four are shared";
}

TEST(SchedulerTest, DecodingRowsAreSpreadOverAPlanPerStage) {
  SchedulerOptions options = Options();
  options.max_rows = 6;
  options.pp = 3;
  Scheduler scheduler(options);
  for (uint64_t id = 1; id <= 6; ++id) scheduler.Submit(Request(id, 2, 9));
  const auto prefill = scheduler.Next();
  ASSERT_EQ(prefill->samples.size(), 6u);
  StepResult first_ids{.plan_id = prefill->id, .ids = {11, 12, 13, 14, 15, 16}};
  scheduler.Commit(first_ids);

  std::deque<StepPlan> in_flight;
  std::multiset<int32_t> decoded;
  for (int i = 0; i < 3; ++i) {
    auto plan = scheduler.Next();
    ASSERT_TRUE(plan) << "plan " << i;
    EXPECT_EQ(plan->n_sequences(), 2);
    EXPECT_EQ(plan->samples.size(), 2u);
    decoded.insert(plan->tokens.begin(), plan->tokens.end());
    in_flight.push_back(std::move(*plan));
  }
  EXPECT_THAT(decoded, ElementsAre(11, 12, 13, 14, 15, 16));
  EXPECT_FALSE(scheduler.Next()) << "every sequence is in a plan";

  // A committed plan's sequences, and no others, are there for the next.
  scheduler.Commit({.plan_id = in_flight.front().id, .ids = {21, 22}});
  const auto plan = scheduler.Next();
  EXPECT_THAT(plan->tokens, ElementsAre(21, 22));
  EXPECT_FALSE(scheduler.Next());
}

TEST(SchedulerTest, CancelledBlocksAreFreeAfterTheLastPlanThatNamesThem) {
  Scheduler scheduler(Options());
  scheduler.Submit(Request(1, 10, 5));
  const auto plan = scheduler.Next();
  scheduler.Cancel(1);
  StepReport report = scheduler.TakeReport();
  EXPECT_EQ(report.deltas[0].finish, FinishReason::kCancelled);
  EXPECT_EQ(report.stats.kv_blocks_used, 3);
  scheduler.Commit(Answer(*plan, 5));
  report = scheduler.TakeReport();
  EXPECT_TRUE(report.deltas.empty());
  EXPECT_EQ(report.stats.kv_blocks_used, 0);
  scheduler.Cancel(99);  // unknown: ignored
}

TEST(SchedulerTest, RefusesWhatCannotRun) {
  Scheduler scheduler(Options());
  scheduler.Submit(Request(1, 0, 5));
  scheduler.Submit(Request(2, 60, 5));
  SequenceRequest bad = Request(3, 2, 5);
  bad.prompt_ids[1] = 100;
  scheduler.Submit(bad);
  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.deltas.size(), 3u);
  EXPECT_EQ(report.deltas[0].error, "the prompt is empty");
  EXPECT_EQ(report.deltas[1].error,
            "60 prompt tokens and 5 to generate do not fit the context of 64");
  EXPECT_EQ(report.deltas[2].error, "token id 100 is outside the vocabulary of 100");
  EXPECT_FALSE(scheduler.Next());
}

TEST(SchedulerTest, HigherPriorityGoesFirst) {
  SchedulerOptions options = Options();
  options.max_rows = 1;
  Scheduler scheduler(options);
  scheduler.Submit(Request(1, 3, 1));
  SequenceRequest urgent = Request(2, 4, 1);
  urgent.priority = 1;
  scheduler.Submit(urgent);
  EXPECT_EQ(scheduler.Next()->n_tokens(), 4);
}

SequenceRequest OfTenant(SequenceRequest request, const std::string& tenant, double weight = 1) {
  request.tenant = tenant;
  request.weight = weight;
  return request;
}

// The ids of those that have blocks, which the tenants compete for: three sequences of seven
// blocks of 4 tokens, each of which grows to need three.
std::set<uint64_t> SurviveShortage(const std::vector<SequenceRequest>& requests) {
  SchedulerOptions options = Options();
  options.n_blocks = 8;
  options.context_length = 32;
  Scheduler scheduler(options);
  for (const SequenceRequest& request : requests) scheduler.Submit(request);
  std::set<uint64_t> ended;
  while (scheduler.TakeReport().stats.preemptions == 0) {
    scheduler.Commit(Answer(*scheduler.Next(), 5));
  }
  while (ended.size() + 1 < requests.size()) {
    scheduler.Commit(Answer(*scheduler.Next(), 5));
    for (const SequenceDelta& delta : scheduler.TakeReport().deltas) {
      if (delta.finish.has_value()) ended.insert(delta.id);
    }
  }
  return ended;
}

TEST(SchedulerTest, TheMostServedTenantGivesItsBlocks) {
  // Of one tenant the last one does, of two the one that has two sequences here.
  EXPECT_EQ(SurviveShortage({Request(1, 7, 8), Request(2, 7, 8), Request(3, 7, 8)}),
            (std::set<uint64_t>{1, 2}));
  EXPECT_EQ(SurviveShortage({OfTenant(Request(1, 7, 8), "a"), OfTenant(Request(2, 7, 8), "a"),
                             OfTenant(Request(3, 7, 8), "b")}),
            (std::set<uint64_t>{1, 3}));
  // A third of it counts where it has three times the weight.
  EXPECT_EQ(SurviveShortage({OfTenant(Request(1, 7, 8), "a", 3), OfTenant(Request(2, 7, 8), "a", 3),
                             OfTenant(Request(3, 7, 8), "b")}),
            (std::set<uint64_t>{1, 2}));
  // Priorities count among a tenant's own.
  SequenceRequest urgent = OfTenant(Request(2, 7, 8), "a");
  urgent.priority = 9;
  EXPECT_EQ(
      SurviveShortage({OfTenant(Request(1, 7, 8), "a"), urgent, OfTenant(Request(3, 7, 8), "b")}),
      (std::set<uint64_t>{2, 3}));
}

TEST(TenantServiceTest, ATenantHasNoClaimOnWhatItDidNotAskFor) {
  TenantService tenants;
  TenantService::Charge(tenants.Enter("a", 1), 30);
  TenantService::Charge(tenants.Enter("b", 2), 20);
  EXPECT_EQ(tenants.Enter("b", 2).time, 30 + 20 / 2) << "it began where the others were";
  EXPECT_EQ(tenants.Enter("c", 1).time, 30) << "where the least served of them is";
  for (const char* name : {"c", "b", "b", "a"}) tenants.Leave(name);
  EXPECT_EQ(tenants.Enter("c", 1).time, 40) << "nor when all the others are gone";
}

TEST(SchedulerTest, OneThatIsToBeAloneIs) {
  SchedulerOptions options = Options();
  options.pp = 2;
  options.max_rows = 2;
  Scheduler scheduler(options);
  scheduler.Submit(Request(1, 3, 9));
  scheduler.Submit(Request(2, 3, 9));
  const auto before = scheduler.Next();
  SequenceRequest suspect = Request(3, 4, 9);
  suspect.emitted_ids = {5};
  suspect.alone_ids = 3;
  scheduler.Submit(suspect);
  EXPECT_FALSE(scheduler.Next()) << "a plan with others is in flight";
  EXPECT_TRUE(scheduler.TakeReport().deltas.empty());
  scheduler.Commit(Answer(*before, 6));
  const auto alone = [&] {
    for (const SequenceDelta& delta : scheduler.TakeReport().deltas) {
      if (delta.alone) return delta.id;
    }
    return uint64_t{0};
  };
  EXPECT_EQ(alone(), 3u) << "told before its first plan";
  for (int i = 0; i < 2; ++i) {  // rows are taken from the others, if need be
    const auto plan = scheduler.Next();
    EXPECT_EQ(plan->n_sequences(), 1);
    EXPECT_EQ(plan->kv_lens[0], 5 + i);
    EXPECT_FALSE(scheduler.Next());
    scheduler.Commit(Answer(*plan, 5));
  }
  EXPECT_EQ(scheduler.Next()->n_sequences(), 1);  // each stage has one of the two that run
  EXPECT_TRUE(scheduler.Next());
  EXPECT_EQ(alone(), 0u);
}

TEST(SchedulerTest, TheyAreAloneOneAfterTheOther) {
  Scheduler scheduler(Options());
  for (uint64_t id : {1, 2}) {
    SequenceRequest suspect = Request(id, 3, 9);
    suspect.alone_ids = 4;
    scheduler.Submit(suspect);
  }
  EXPECT_EQ(scheduler.TakeReport().deltas.size(), 1u);
  scheduler.Commit(Answer(*scheduler.Next(), 5));
  scheduler.TakeReport();
  scheduler.Cancel(1);
  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.deltas.size(), 2u);
  EXPECT_EQ(report.deltas[1].id, 2u);
  EXPECT_TRUE(report.deltas[1].alone);
}

// Of several controllers one may be wrong.
TEST(SchedulerTest, WhatNoControllerCanMeanHarmsNobodyElse) {
  SchedulerOptions options = Options();
  options.context_length = 100;
  options.n_blocks = 50;
  Scheduler scheduler(options);
  SequenceRequest wrong = Request(1, 3, 5);
  wrong.prompt_logprobs = -1;
  scheduler.Submit(wrong);
  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.deltas.size(), 1u);
  EXPECT_EQ(report.deltas[0].finish, FinishReason::kError);
  EXPECT_THAT(report.deltas[0].error, HasSubstr("logprobs of -1"));

  scheduler.Submit(OfTenant(Request(2, 3, 90), "a", NAN));
  scheduler.Submit(OfTenant(Request(3, 3, 90), "b", -1));
  SequenceRequest selfish = OfTenant(Request(4, 3, 90), "c");
  selfish.alone_ids = INT32_MAX;
  scheduler.Submit(selfish);
  scheduler.TakeReport();
  int n_alone = 0;
  for (; n_alone < 80; ++n_alone) {
    const auto plan = scheduler.Next();
    if (plan->n_sequences() > 1) break;
    scheduler.Commit(Answer(*plan, 5));
  }
  EXPECT_EQ(n_alone, 64);
}

TEST(SchedulerTest, WhatGaveItsBlocksGoesOnBeforeOthersBegin) {
  SchedulerOptions options = Options();
  options.n_blocks = 6;
  options.context_length = 24;
  Scheduler scheduler(options);
  scheduler.Submit(OfTenant(Request(1, 7, 8), "a"));
  scheduler.Submit(OfTenant(Request(2, 7, 8), "b", 0.5));  // the most served
  while (scheduler.TakeReport().stats.preemptions == 0) {
    scheduler.Commit(Answer(*scheduler.Next(), 5));
  }
  scheduler.Submit(OfTenant(Request(3, 7, 1), "c"));  // has had no service yet
  scheduler.Cancel(1);
  const auto plan = scheduler.Next();
  EXPECT_GT(plan->kv_lens[0], 7) << "the one that had begun";
}

TEST(SchedulerTest, FreeTokensAreThoseThatNobodyWaitsFor) {
  SchedulerOptions options = Options();
  options.max_rows = 1;
  Scheduler scheduler(options);
  EXPECT_EQ(scheduler.n_free_tokens(), 64);
  scheduler.Submit(Request(1, 5, 9));
  scheduler.Submit(Request(2, 8, 9));
  EXPECT_EQ(scheduler.n_free_tokens(), 64 - 8 - 12) << "a block for the next token, too";
  scheduler.Next();
  EXPECT_EQ(scheduler.n_free_tokens(), 64 - 8 - 12);
}

// A model of what ids a replica must produce: a function of the sequence so far alone.
int32_t NextId(const std::vector<int32_t>& tokens) {
  uint32_t hash = 17;
  for (int32_t id : tokens) hash = hash * 31 + static_cast<uint32_t>(id) + 1;
  return static_cast<int32_t>((hash >> 7) % 100);
}

// Plays the ranks: executes plans on pages that hold (id, position), so that any wrong slot, stale
// block or missing token shows.
class FakeReplica {
 public:
  explicit FakeReplica(const SchedulerOptions& options)
      : block_size_(options.block_size), pages_(options.n_blocks * options.block_size, {-1, -1}) {}

  StepResult Run(const StepPlan& plan) {
    for (int64_t t = 0; t < plan.n_tokens(); ++t) {
      pages_[plan.slots[t]] = {plan.tokens[t], plan.positions[t]};
    }
    StepResult result{.plan_id = plan.id};
    for (const SampleRow& row : plan.samples) {
      int64_t s = 0;
      while (plan.q_starts[s + 1] <= row.row) ++s;
      std::vector<int32_t> tokens;
      for (int32_t i = 0; i < plan.kv_lens[s]; ++i) {
        const int32_t block = plan.block_table[s * plan.max_blocks + i / block_size_];
        const auto [id, position] = pages_[block * block_size_ + i % block_size_];
        EXPECT_EQ(position, i);
        tokens.push_back(id);
      }
      result.ids.push_back(NextId(tokens));
    }
    return result;
  }

 private:
  int64_t block_size_;
  std::vector<std::pair<int32_t, int32_t>> pages_;
};

struct Expected {
  SequenceRequest request;
  std::vector<int32_t> got;
  std::optional<FinishReason> finish;
  bool cancelled = false;
};

void RunRandomTraffic(uint32_t seed) {
  std::mt19937 random(seed);
  auto draw = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  SchedulerOptions options{.n_blocks = 8 + draw(30),
                           .block_size = 1 + draw(6),
                           .max_rows = 1 + draw(8),
                           .vocab_size = 100,
                           .pp = 1 + draw(4),
                           .prefix_cache = draw(4) != 0};
  options.max_batch_tokens = options.max_rows + draw(20);
  options.context_length = static_cast<int32_t>(options.n_blocks * options.block_size);
  Scheduler scheduler(options);
  FakeReplica replica(options);
  std::map<uint64_t, Expected> sequences;
  std::deque<StepPlan> in_flight;
  int to_submit = 30;
  int64_t idle_steps = 0;
  uint64_t alone = 0;  // the sequence that is, or 0

  auto read_report = [&] {
    StepReport report = scheduler.TakeReport();
    for (const SequenceDelta& delta : report.deltas) {
      Expected& e = sequences.at(delta.id);
      ASSERT_FALSE(e.finish.has_value()) << "news after the end";
      if (delta.alone) {
        ASSERT_EQ(alone, 0u) << "two are alone";
        alone = delta.id;
      }
      if (!delta.ids.empty()) {
        ASSERT_EQ(delta.offset, static_cast<int32_t>(e.got.size()));
      }
      e.got.insert(e.got.end(), delta.ids.begin(), delta.ids.end());
      e.finish = delta.finish;
      const bool over = e.finish || static_cast<int32_t>(e.got.size()) >= e.request.alone_ids;
      if (alone == delta.id && over) alone = 0;
    }
  };

  while (to_submit > 0 || scheduler.has_work() || !in_flight.empty()) {
    if (to_submit > 0 && draw(3) == 0) {
      const uint64_t id = static_cast<uint64_t>(31 - to_submit--);
      SequenceRequest request{.id = id};
      const int room = options.context_length;
      const int n_prompt = 1 + draw(std::max(1, room - 1));
      // A tiny alphabet, so that prefixes are often shared.
      for (int i = 0; i < n_prompt; ++i) request.prompt_ids.push_back(draw(3) == 0 ? draw(3) : 0);
      request.max_tokens = 1 + draw(std::max(1, std::min(20, room - n_prompt)));
      if (n_prompt + request.max_tokens > room) request.max_tokens = room - n_prompt;
      if (request.max_tokens < 1) continue;
      if (draw(2) == 0) request.stop_ids = {draw(100), draw(100), draw(100)};
      if (draw(3) == 0) request.min_tokens = draw(4);
      request.priority = draw(3);
      request.tenant = std::string(1, static_cast<char>('a' + draw(3)));
      request.weight = 1 + draw(2);
      if (draw(8) == 0) request.alone_ids = draw(12);
      if (draw(3) == 0) {  // goes on after a crash
        std::vector<int32_t> tokens = request.prompt_ids;
        for (int i = draw(request.max_tokens); i > 0; --i) {
          request.emitted_ids.push_back(NextId(tokens));
          tokens.push_back(request.emitted_ids.back());
        }
      }
      Expected& expected = sequences[id];
      expected.request = request;
      expected.got = request.emitted_ids;
      scheduler.Submit(request);
    }
    if (draw(40) == 0 && !sequences.empty()) {
      auto it = std::next(sequences.begin(), draw(static_cast<int>(sequences.size())));
      if (!it->second.finish) it->second.cancelled = true;
      scheduler.Cancel(it->first);
      read_report();
    }
    bool progress = false;
    if (scheduler.n_in_flight() < options.pp) {
      if (auto plan = scheduler.Next()) {
        ASSERT_LE(plan->n_tokens(), options.max_batch_tokens);
        ASSERT_LE(plan->n_sequences(), options.max_rows);
        if (alone != 0) {
          ASSERT_EQ(plan->n_sequences(), 1);
        }
        in_flight.push_back(std::move(*plan));
        progress = true;
      }
    }
    if (!in_flight.empty() && (!progress || draw(2) == 0)) {
      scheduler.Commit(replica.Run(in_flight.front()));
      in_flight.pop_front();
      progress = true;
    }
    read_report();
    idle_steps = progress ? 0 : idle_steps + 1;
    ASSERT_LT(idle_steps, 200) << "no progress: seed " << seed;
  }

  for (const auto& [id, e] : sequences) {
    ASSERT_TRUE(e.finish.has_value()) << id;
    if (e.cancelled && *e.finish == FinishReason::kCancelled) continue;
    std::vector<int32_t> tokens = e.request.prompt_ids, ids;
    FinishReason finish = FinishReason::kLength;
    while (static_cast<int32_t>(ids.size()) < e.request.max_tokens) {
      const int32_t next = NextId(tokens);
      const auto& stops = e.request.stop_ids;
      const bool replayed = ids.size() < e.request.emitted_ids.size();
      if (!replayed && static_cast<int32_t>(ids.size()) >= e.request.min_tokens &&
          std::find(stops.begin(), stops.end(), next) != stops.end()) {
        finish = FinishReason::kStop;
        break;
      }
      ids.push_back(next);
      tokens.push_back(next);
    }
    ASSERT_EQ(e.got, ids) << "sequence " << id << " seed " << seed;
    ASSERT_EQ(*e.finish, finish) << "sequence " << id << " seed " << seed;
  }
  const StepReport report = scheduler.TakeReport();
  ASSERT_EQ(report.stats.kv_blocks_used, 0) << "seed " << seed;
  ASSERT_EQ(report.stats.running, 0);
  ASSERT_EQ(report.stats.waiting, 0);
}

TEST(SchedulerTest, RandomTrafficKeepsEveryPromise) {
  const int n_runs = std::getenv("TRIREME_SOAK") != nullptr ? 20000 : 1500;
  for (int seed = 1; seed <= n_runs; ++seed) {
    RunRandomTraffic(static_cast<uint32_t>(seed));
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace trireme
