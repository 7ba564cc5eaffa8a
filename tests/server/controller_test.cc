// The controller core, event by event.
#include "server/controller.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/core_bench.h"

namespace trireme {
namespace {

using test::CoreBench;
using test::Ids;
using test::Info;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

GenerateRequest Request(const std::string& prompt, int32_t max_tokens, uint64_t seed = 1) {
  GenerateRequest request;
  request.ids = Ids(prompt);
  request.max_tokens = max_tokens;
  request.seed = seed;
  request.ignore_eos = true;
  return request;
}

// What the scripted replicas generate for `request` when nothing disturbs them.
std::vector<int32_t> Expected(const GenerateRequest& request, uint64_t weights = 0) {
  SequenceRequest sequence;
  sequence.prompt_ids = request.ids;
  sequence.sampling.seed = *request.seed;
  sequence.max_tokens = *request.max_tokens;
  sequence.stop_ids = request.stop_token_ids;
  return test::Undisturbed(sequence, weights);
}

SequenceDelta DeltaOf(uint64_t sequence, int32_t offset, const std::string& letters) {
  return {.id = sequence, .offset = offset, .ids = Ids(letters)};
}

TEST(ControllerTest, GeneratesToMaxTokens) {
  CoreBench bench;
  bench.Up();
  const auto request = Request("once", 9);
  const uint64_t key = bench.Generate(request);
  bench.RunToEnd();
  const auto& client = bench.clients[key];
  EXPECT_EQ(client.ids, Expected(request));
  ASSERT_TRUE(client.finished.has_value());
  EXPECT_EQ(client.finished->reason, FinishReason::kLength);
  EXPECT_EQ(client.finished->usage.prompt_tokens, 4);
  EXPECT_EQ(client.finished->usage.completion_tokens, 9);
  bench.ExpectEmpty();
}

TEST(ControllerTest, ReturnsTheSeedAndIdThatItDrew) {
  CoreBench bench;
  bench.Up();
  auto request = Request("a", 3);
  request.seed.reset();
  const auto a = *bench.clients[bench.Generate(request)].accepted;
  const auto b = *bench.clients[bench.Generate(request)].accepted;
  EXPECT_NE(a.seed, b.seed);
  EXPECT_NE(a.id, b.id);
  EXPECT_EQ(bench.handed_over.back().sampling.seed, b.seed);
}

TEST(ControllerTest, EchoReturnsThePrompt) {
  CoreBench bench;
  bench.Up();
  auto request = Request("to be", 3);
  request.echo = true;
  const auto accepted = *bench.clients[bench.Generate(request)].accepted;
  EXPECT_EQ(accepted.prompt_ids, Ids("to be"));
  EXPECT_EQ(accepted.prompt_text, "to be");
}

TEST(ControllerTest, EndsAtAStopIdWithoutEmittingIt) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 9);
  request.ignore_eos = false;
  request.stop_token_ids = {7};
  const uint64_t key = bench.Generate(request);
  EXPECT_THAT(bench.handed_over.back().stop_ids, ElementsAre(7, test::kEos));
  auto delta = DeltaOf(1, 0, "bc");
  delta.finish = FinishReason::kStop;
  delta.matched_stop_id = 7;
  bench.Report(link, {.deltas = {delta}});
  const auto& client = bench.clients[key];
  EXPECT_EQ(client.text, "bc");
  EXPECT_EQ(client.finished->reason, FinishReason::kStop);
  EXPECT_EQ(client.finished->stop_id, 7);
  EXPECT_THAT(bench.cancels, IsEmpty());
}

TEST(ControllerTest, CutsTheTextBeforeAStopStringAndCancelsTheRest) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 20);
  request.stop = {"stop", "dog"};
  const uint64_t key = bench.Generate(request);
  bench.Report(link, {.deltas = {DeltaOf(1, 0, "do st")}});
  EXPECT_EQ(bench.clients[key].text, "do ");  // "st" may begin a stop string
  bench.Report(link, {.deltas = {DeltaOf(1, 5, "opper")}});
  const auto& client = bench.clients[key];
  EXPECT_EQ(client.text, "do ");
  EXPECT_EQ(client.ids, Ids("do stop"));  // to the id that completed it
  EXPECT_EQ(client.finished->reason, FinishReason::kStop);
  EXPECT_EQ(client.finished->stop_text, "stop");
  EXPECT_THAT(bench.cancels, ElementsAre(Pair(link, 1u)));

  // What the replica drew meanwhile comes to nobody.
  bench.Report(link, {.deltas = {DeltaOf(1, 10, "abc")}});
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, LogprobsGoWithTheirIds) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("abc", 20);
  request.stop = {"stop"};
  request.logprobs = 1;
  request.prompt_logprobs = 2;
  const uint64_t key = bench.Generate(request);
  EXPECT_EQ(bench.handed_over.back().logprobs, 1);
  EXPECT_EQ(bench.handed_over.back().prompt_logprobs, 2);
  const auto& client = bench.clients[key];
  EXPECT_EQ(client.accepted->prompt_ids, Ids("abc"));
  const auto with_logprobs = [](SequenceDelta delta) {
    for (size_t i = 0; i < delta.ids.size(); ++i) {
      const size_t index = static_cast<size_t>(delta.offset) + i;
      delta.logprobs.push_back(test::LogprobsOf(delta.ids[i], index));
    }
    return delta;
  };
  SequenceDelta first = with_logprobs(DeltaOf(1, 0, "ab"));
  first.prompt_logprobs = {test::LogprobsOf(1, 1), test::LogprobsOf(2, 2)};
  bench.Report(link, {.deltas = {first}});
  bench.Report(link, {.deltas = {with_logprobs(DeltaOf(1, 1, "bst"))}});  // the first one again
  bench.Report(link, {.deltas = {with_logprobs(DeltaOf(1, 4, "oppers"))}});
  EXPECT_EQ(client.ids, Ids("abstop"));
  std::vector<TokenLogprobs> expected;
  for (size_t i = 0; i < client.ids.size(); ++i) {
    expected.push_back(test::LogprobsOf(client.ids[i], i));
  }
  EXPECT_EQ(client.logprobs, expected);  // those of dropped ids are dropped
  EXPECT_EQ(client.prompt_logprobs, first.prompt_logprobs);
}

// It is told as well where no id follows.
TEST(ControllerTest, PromptLogprobsComeBeforeAStopId) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("ab", 20);
  request.prompt_logprobs = 0;
  const uint64_t key = bench.Generate(request);
  bench.Report(link, {.deltas = {{.id = 1,
                                  .prompt_logprobs = {test::LogprobsOf(1, 1)},
                                  .finish = FinishReason::kStop}}});
  EXPECT_EQ(bench.clients[key].prompt_logprobs.size(), 1u);
  EXPECT_TRUE(bench.clients[key].finished.has_value());
}

TEST(ControllerTest, EmitsTheBeginningOfAStopStringThatDoesNotCome) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 4);
  request.stop = {"stop"};
  const uint64_t key = bench.Generate(request);
  auto delta = DeltaOf(1, 0, "asto");
  delta.finish = FinishReason::kLength;
  bench.Report(link, {.deltas = {delta}});
  EXPECT_EQ(bench.clients[key].text, "asto");
  EXPECT_EQ(bench.clients[key].finished->reason, FinishReason::kLength);
}

TEST(ControllerTest, LooksForStopStringsFromMinTokensOn) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 20);
  request.stop = {"ab"};
  request.min_tokens = 4;
  const uint64_t key = bench.Generate(request);
  bench.Report(link, {.deltas = {DeltaOf(1, 0, "abcab")}});
  EXPECT_EQ(bench.clients[key].text, "abc");
  EXPECT_EQ(bench.clients[key].finished->stop_text, "ab");
}

TEST(ControllerTest, HoldsBackHalfACharacter) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const uint64_t key = bench.Generate(Request("a", 20));
  SequenceDelta half{.id = 1, .offset = 0, .ids = {2, test::kFirstHalf}};
  bench.Report(link, {.deltas = {half}});
  EXPECT_EQ(bench.clients[key].text, "c");
  SequenceDelta other{.id = 1, .offset = 2, .ids = {test::kSecondHalf}};
  bench.Report(link, {.deltas = {other}});
  EXPECT_EQ(bench.clients[key].text, "cé");
}

TEST(ControllerTest, DropsRepeatedIds) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const uint64_t key = bench.Generate(Request("a", 20));
  bench.Report(link, {.deltas = {DeltaOf(1, 0, "abc")}});
  bench.Report(link, {.deltas = {DeltaOf(1, 0, "abc")}});
  bench.Report(link, {.deltas = {DeltaOf(1, 1, "bcde")}});
  EXPECT_EQ(bench.clients[key].text, "abcde");
}

TEST(ControllerTest, ClosesTheLinkOfAReplicaThatContradictsItself) {
  const auto fault = [](const SequenceDelta& delta) {
    CoreBench bench;
    const uint64_t link = bench.Up();
    const uint64_t key = bench.Generate(Request("a", 5));
    bench.Report(link, {.deltas = {DeltaOf(1, 0, "ab"), delta}});
    EXPECT_FALSE(bench.clients[key].ended());  // it waits for another replica
    EXPECT_EQ(bench.clients[key].text, "ab");
    EXPECT_EQ(bench.core.replicas().size(), 0u);
    return bench.closed.contains(link) ? bench.closed[link].reason : "";
  };
  EXPECT_THAT(fault(DeltaOf(1, 3, "d")), HasSubstr("ids from 3 on, after 2 ids"));
  EXPECT_THAT(fault(DeltaOf(1, -1, "d")), HasSubstr("ids from -1 on"));
  EXPECT_THAT(fault(DeltaOf(1, 1, "cc")), HasSubstr("differ"));
  EXPECT_THAT(fault(DeltaOf(1, 2, "cdef")), HasSubstr("more than max_tokens 5"));
  EXPECT_THAT(fault({.id = 1, .offset = 2, .ids = {30}}), HasSubstr("id 30"));
  EXPECT_THAT(fault({.id = 1, .offset = 0, .finish = FinishReason::kStop}),
              HasSubstr("ended at 0"));
}

TEST(ControllerTest, GoesOnElsewhereWhenAReplicaIsLost) {
  CoreBench bench;
  const uint64_t first = bench.Up(), second = bench.Up();
  const auto request = Request("once", 12);
  const uint64_t key = bench.Generate(request);
  ASSERT_THAT(bench.submits, ElementsAre(Pair(first, 1u)));
  for (int i = 0; i < 5; ++i) bench.Step(first);
  bench.Down(first);
  EXPECT_THAT(bench.submits, ElementsAre(Pair(first, 1u), Pair(second, 2u)));
  EXPECT_EQ(bench.handed_over.back().emitted_ids.size(), 5u);
  EXPECT_EQ(bench.clients[key].n_waiting, 0);  // it did not wait
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[key].ids, Expected(request));
  EXPECT_EQ(bench.core.counters().replayed, 1);
}

TEST(ControllerTest, WaitsForANewReplicaAndTellsTheClient) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const auto request = Request("once", 12);
  const uint64_t key = bench.Generate(request);
  for (int i = 0; i < 5; ++i) bench.Step(link);
  bench.Down(link, "signal 9");
  auto& client = bench.clients[key];
  EXPECT_EQ(client.n_waiting, 1);
  EXPECT_THAT(client.last_waiting, HasSubstr("signal 9"));
  bench.Advance(25);
  EXPECT_EQ(client.n_waiting, 3);
  bench.Up();
  bench.RunToEnd();
  EXPECT_EQ(client.ids, Expected(request));
  EXPECT_THAT(bench.log.back(), HasSubstr("1 requests went on after a pause of 25 s"));
  bench.ExpectEmpty();
}

TEST(ControllerTest, APauseIsOverWhenTheLastRequestHasGoneOnOrEnded) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const auto request = Request("once", 12);
  bench.Generate(request);
  const uint64_t gives_up = bench.Generate(request);
  bench.Step(link);
  bench.Down(link);
  bench.Advance(1);
  bench.Cancel(gives_up);
  bench.Advance(2);
  bench.Step(bench.Up());
  EXPECT_THAT(bench.log.back(), HasSubstr("1 requests went on after a pause of 3 s"));
}

TEST(ControllerTest, GoesOnOnlyWithAnEqualFingerprint) {
  CoreBench bench;
  const uint64_t link = bench.Up(Info("tiny", "f1"));
  const auto request = Request("once", 12);
  const uint64_t begun = bench.Generate(request);
  bench.Step(link);
  const uint64_t fresh = bench.Generate(request);  // not an id yet: any replica will do
  bench.Down(link);
  bench.Up(Info("tiny", "f2"));
  ASSERT_TRUE(bench.clients[begun].error.has_value());
  EXPECT_EQ(bench.clients[begun].error->code(), absl::StatusCode::kAborted);
  EXPECT_THAT(Message(*bench.clients[begun].error), HasSubstr("has fingerprint f2, not f1"));
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[fresh].ids, Expected(request, /*weights=*/2));
  bench.ExpectEmpty();
}

TEST(ControllerTest, WaitsPastReplicasOfAnotherFingerprintThatWereThereBefore) {
  CoreBench bench;
  const uint64_t one = bench.Up(Info("tiny", "f1"));
  const auto request = Request("once", 12);
  const uint64_t key = bench.Generate(request);
  bench.Step(one);
  bench.Up(Info("tiny", "f2"));
  bench.Down(one);
  EXPECT_FALSE(bench.clients[key].ended());
  const uint64_t again = bench.Up(Info("tiny", "f1"));
  EXPECT_EQ(bench.submits.back().first, again);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[key].ids, Expected(request));
}

TEST(ControllerTest, ASilentReplicaIsLost) {
  CoreBench bench(
      {.heartbeat_interval = std::chrono::seconds(1), .replica_timeout = std::chrono::seconds(5)});
  const uint64_t link = bench.Up();
  const uint64_t key = bench.Generate(Request("a", 3));
  bench.Advance(4);
  EXPECT_EQ(bench.n_heartbeats, 4);
  bench.core.Heartbeat(bench.now, link);
  bench.Advance(4);
  EXPECT_FALSE(bench.closed.contains(link));
  bench.Advance(3);
  ASSERT_TRUE(bench.closed.contains(link));
  EXPECT_THAT(bench.closed[link].reason, HasSubstr("nothing heard for 5 s"));
  EXPECT_FALSE(bench.closed[link].rejected);
  EXPECT_EQ(bench.clients[key].n_waiting, 1);
}

// ---- What is measured.

std::vector<double> Observed(const CoreBench& bench, Measure what) {
  std::vector<double> values;
  for (const Observe& observed : bench.observed) {
    if (observed.what == what) values.push_back(observed.value);
  }
  return values;
}

TEST(ControllerTest, WhoWatchesIsToldOfHandOversAndLosses) {
  CoreBench bench;
  const uint64_t first = bench.Up();
  const uint64_t key = bench.Generate(Request("abc", 4));
  bench.Step(first);
  bench.Down(first);
  const uint64_t second = bench.Up();
  std::vector<std::pair<Progress::Kind, uint64_t>> told;
  for (const auto& [client, progress] : bench.progress) {
    EXPECT_EQ(client, key);
    told.emplace_back(progress.kind, progress.link);
  }
  const std::vector<std::pair<Progress::Kind, uint64_t>> expected = {
      {Progress::kHandedOver, first},
      {Progress::kReplicaLost, first},
      {Progress::kHandedOver, second}};
  EXPECT_EQ(told, expected);
}

TEST(ControllerTest, MeasuresAreOfTheInjectedClock) {
  CoreBench bench;
  bench.Down(bench.Up());
  const uint64_t key = bench.Generate(Request("abc", 4));
  bench.Advance(1);
  const uint64_t link = bench.Up();
  bench.Advance(0.5);
  bench.Step(link);
  bench.Advance(0.25);
  bench.Report(link, bench.replicas.at(link).Step([] { return 3; }));
  ASSERT_TRUE(bench.clients[key].ended());
  EXPECT_THAT(Observed(bench, Measure::kQueueTime), ElementsAre(1));
  EXPECT_THAT(Observed(bench, Measure::kPrefillTime), ElementsAre(0.5));
  EXPECT_THAT(Observed(bench, Measure::kTimeToFirstToken), ElementsAre(1.5));
  EXPECT_THAT(Observed(bench, Measure::kInterTokenLatency), ElementsAre(0.25 / 3));
  EXPECT_THAT(Observed(bench, Measure::kDecodeTime), ElementsAre(0.25));
  EXPECT_THAT(Observed(bench, Measure::kInferenceTime), ElementsAre(0.75));
  EXPECT_THAT(Observed(bench, Measure::kMaxTokens), ElementsAre(4));
  EXPECT_THAT(Observed(bench, Measure::kMostGenerationTokens), ElementsAre(4));
  EXPECT_THAT(Observed(bench, Measure::kEndToEnd), ElementsAre(1.75));
  EXPECT_THAT(Observed(bench, Measure::kPromptTokens), ElementsAre(3));
  EXPECT_THAT(Observed(bench, Measure::kNewTokens), ElementsAre(1, 3));
  EXPECT_THAT(Observed(bench, Measure::kGenerationTokens), ElementsAre(4));
  EXPECT_THAT(Observed(bench, Measure::kEnded), ElementsAre(1));
  EXPECT_EQ(bench.observed.back().reason, "length");
}

// ---- Choices.

std::vector<int32_t> ExpectedChoice(const GenerateRequest& request, uint32_t choice) {
  SequenceRequest sequence;
  sequence.prompt_ids = request.ids;
  sequence.sampling.seed = *request.seed;
  sequence.choice = choice;
  sequence.max_tokens = *request.max_tokens;
  return test::Undisturbed(sequence);
}

TEST(ControllerTest, EachChoiceHasDrawsAndAnEndOfItsOwn) {
  CoreBench bench;
  bench.Up();
  auto request = Request("a", 9);
  request.n = 3;
  const uint64_t key = bench.Generate(request);
  EXPECT_EQ(bench.handed_over.size(), 3u);
  bench.RunToEnd();
  auto& client = bench.clients[key];
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(client.choice(i).ids, ExpectedChoice(request, i)) << i;
    ASSERT_TRUE(client.choice(i).finished.has_value());
    EXPECT_EQ(client.choice(i).finished->choice, i);
  }
  EXPECT_NE(client.ids, client.choice(1).ids);
  EXPECT_EQ(client.ids, Expected(request));  // what n = 1 gives
  EXPECT_EQ(bench.core.counters().accepted, 1);
  EXPECT_EQ(bench.core.counters().finished, 1);
  bench.ExpectEmpty();
}

TEST(ControllerTest, ARequestEndsWithTheLastOfItsChoices) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 9);
  request.n = 2;
  request.stop_token_ids = {7};
  const uint64_t key = bench.Generate(request);
  auto delta = DeltaOf(1, 0, "b");
  delta.finish = FinishReason::kStop;
  delta.matched_stop_id = 7;
  bench.Report(link, {.deltas = {delta}});
  auto& client = bench.clients[key];
  EXPECT_TRUE(client.finished.has_value());
  EXPECT_FALSE(client.ended());
  EXPECT_EQ(bench.core.n_requests(), 1u);
  delta.id = 2;
  bench.Report(link, {.deltas = {delta}});
  EXPECT_TRUE(client.ended());
}

TEST(ControllerTest, ChoicesThatWaitAreOneNews) {
  CoreBench bench;
  bench.Down(bench.Up());
  auto request = Request("a", 9);
  request.n = 3;
  const uint64_t key = bench.Generate(request);
  EXPECT_EQ(bench.clients[key].n_waiting, 1);
  bench.Advance(10);
  EXPECT_EQ(bench.clients[key].n_waiting, 2);
}

TEST(ControllerTest, CancellingARequestEndsAllOfItsChoices) {
  CoreBench bench;
  ReplicaInfo info = Info();
  info.credits.sequences = 2;
  bench.Up(info);
  auto request = Request("a", 9);
  request.n = 4;  // two run, two wait
  const uint64_t key = bench.Generate(request);
  bench.Cancel(key);
  EXPECT_EQ(bench.cancels.size(), 2u);
  EXPECT_EQ(bench.clients[key].error->code(), absl::StatusCode::kCancelled);
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, AtItsDeadlineEachChoiceEndsWithWhatItHas) {
  CoreBench bench;
  ReplicaInfo info = Info();
  info.credits.sequences = 2;
  const uint64_t link = bench.Up(info);
  auto request = Request("a", 9);
  request.n = 3;  // the third waits
  request.timeout_s = 5;
  const uint64_t key = bench.Generate(request);
  bench.Step(link);
  bench.core.Heartbeat(bench.now, link);
  bench.Advance(5);
  auto& client = bench.clients[key];
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(client.error.has_value());
  EXPECT_EQ(client.ids.size(), 1u);
  EXPECT_EQ(client.choice(2).ids.size(), 0u);
  EXPECT_EQ(client.choice(2).finished->reason, FinishReason::kDeadline);
}

TEST(ControllerTest, AFailureOfOneChoiceFailsTheRequest) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 9);
  request.n = 2;
  const uint64_t key = bench.Generate(request);
  bench.Report(link, {.deltas = {{.id = 2, .finish = FinishReason::kError, .error = "no"}}});
  EXPECT_EQ(bench.clients[key].error->code(), absl::StatusCode::kInternal);
  EXPECT_THAT(bench.cancels, ElementsAre(Pair(link, 1u)));
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, ChoicesCountAgainstTheBound) {
  CoreBench bench({.max_requests = 4});
  bench.Up();
  auto request = Request("a", 9);
  request.n = 3;
  bench.Generate(request);
  request.n = 2;
  const uint64_t refused = bench.Generate(request);
  EXPECT_EQ(bench.clients[refused].error->code(), absl::StatusCode::kResourceExhausted);
}

// ---- Credits, tenants, bounds, prefixes.

TEST(ControllerTest, AReplicaIsGivenWhatItGrants) {
  CoreBench bench;
  auto info = Info();
  info.credits = {.sequences = 3, .kv_tokens = 20};
  const uint64_t link = bench.Up(info);
  const auto has = [&] { return bench.core.replicas().at(link).running.size(); };
  const auto request = Request("aaaaaaaa", 5);  // 8 tokens, 13 in the end
  for (int i = 0; i < 6; ++i) bench.Generate(request);
  EXPECT_EQ(has(), 2u);
  bench.Report(link, {.credits = Credits{.sequences = 3, .kv_tokens = 24}});
  EXPECT_EQ(has(), 3u);
  bench.Report(link, {.credits = Credits{.sequences = 3, .kv_tokens = 100}});
  EXPECT_EQ(has(), 3u);
  bench.Report(link, {});  // the same as before
  bench.Report(link, {.credits = Credits{.sequences = 4, .kv_tokens = 32}});
  EXPECT_EQ(has(), 4u);
  bench.Report(link, {.credits = Credits{.sequences = 5, .kv_tokens = 41}});
  EXPECT_EQ(has(), 5u);
  bench.Report(link, {.credits = Credits{.sequences = 9, .kv_tokens = 47}});
  bench.Step(link);  // generated ids count, too
  bench.Report(link, {.credits = Credits{.sequences = 9, .kv_tokens = 52}});
  EXPECT_EQ(has(), 5u);
  bench.Report(link, {.credits = Credits{.sequences = 9, .kv_tokens = 53}});
  EXPECT_EQ(has(), 6u);
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, ALargePromptIsNotOvertakenBySmallOnes) {
  CoreBench bench;
  auto info = Info();
  info.credits = {.sequences = 8, .kv_tokens = 16};
  const uint64_t link = bench.Up(info);
  const uint64_t small = bench.Generate(Request("aaaa", 3));
  const uint64_t large = bench.Generate(Request(std::string(20, 'a'), 3));
  bench.Generate(Request("aaaa", 3));
  EXPECT_THAT(bench.KeysOn(link), ElementsAre(small));
  while (!bench.clients[small].ended()) bench.Step(link);
  EXPECT_THAT(bench.KeysOn(link), ElementsAre(large)) << "more than is granted, but alone";
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, ALargePromptHoldsUpOnlyReplicasThatItFits) {
  CoreBench bench;
  auto info = Info();
  info.credits = {.sequences = 8, .kv_tokens = 16};
  const uint64_t link = bench.Up(info);
  const uint64_t first = bench.Generate(Request("aaaa", 3));
  const uint64_t large = bench.Generate(Request(std::string(20, 'a'), 3));
  info.kv_tokens = 16;
  const uint64_t narrow = bench.Up(info);
  const uint64_t small = bench.Generate(Request("aaaa", 3));
  EXPECT_THAT(bench.KeysOn(link), ElementsAre(first));
  EXPECT_THAT(bench.KeysOn(narrow), ElementsAre(small));
  bench.RunToEnd();
  EXPECT_FALSE(bench.clients[large].error.has_value());
  bench.ExpectEmpty();
}

TEST(ControllerTest, LogprobsThatNobodyAskedForAreAFault) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  bench.Generate(Request("a", 3));
  bench.Report(link, {.deltas = {{.id = 1, .ids = {1}, .logprobs = {{}}}}});
  EXPECT_THAT(bench.closed.at(link).reason, HasSubstr("1 logprobs of 1 ids"));
  const uint64_t other = bench.Up();
  bench.Report(other, {.deltas = {{.id = 2, .ids = {1}, .prompt_logprobs = {{}}}}});
  EXPECT_THAT(bench.closed.at(other).reason, HasSubstr("1 logprobs of the prompt"));
}

TEST(ControllerTest, AReplicaIsToldWhoseASequenceIs) {
  CoreBench bench;
  bench.Up();
  auto request = Request("a", 3);
  request.tenant = "team";
  request.weight = 2.5;
  bench.Generate(request);
  EXPECT_EQ(bench.handed_over[0].tenant, "team");
  EXPECT_EQ(bench.handed_over[0].weight, 2.5);
}

TEST(ControllerTest, AFloodOfOneTenantDoesNotDelayAnother) {
  CoreBench bench;
  auto info = Info();
  info.credits.sequences = 2;
  const uint64_t link = bench.Up(info);
  auto request = Request("a", 8);
  request.tenant = "a";
  for (int i = 0; i < 20; ++i) bench.Generate(request);
  for (int i = 0; i < 10; ++i) bench.Step(link);  // it has had some
  request.tenant = "b";
  const uint64_t other = bench.Generate(request);
  for (int i = 0; i < 24; ++i) bench.Step(link);  // behind two that are on the replica
  EXPECT_TRUE(bench.clients[other].finished.has_value());
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, ATenantsOwnBoundIsItsOwn) {
  CoreBench bench;
  bench.Up();
  auto request = Request("a", 8);
  request.tenant = "a";
  request.max_tenant_requests = 2;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 2; ++i) EXPECT_FALSE(bench.clients[bench.Generate(request)].error);
    EXPECT_EQ(bench.clients[bench.Generate(request)].error->code(),
              absl::StatusCode::kResourceExhausted);
    bench.RunToEnd();
  }
  request.tenant = "b";
  EXPECT_FALSE(bench.clients[bench.Generate(request)].error.has_value());
}

TEST(ControllerTest, TheLedgersBytesAreBounded) {
  CoreBench bench({.max_ledger_bytes = 5000});
  bench.Up();
  for (int round = 0; round < 3; ++round) {
    EXPECT_FALSE(bench.clients[bench.Generate(Request("a", 8))].error.has_value());
    EXPECT_FALSE(bench.clients[bench.Generate(Request("a", 8))].error.has_value());
    const uint64_t third = bench.Generate(Request(std::string(40, 'a') + std::string(20, 'b'), 4));
    EXPECT_FALSE(bench.clients[third].error.has_value());
    const uint64_t fourth = bench.Generate(Request("a", 8));
    EXPECT_EQ(bench.clients[fourth].error->code(), absl::StatusCode::kResourceExhausted);
    bench.RunToEnd();
  }
}

TEST(ControllerTest, WhatIsGeneratedCountsInTheLedger) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("aaaa", 20);
  request.logprobs = 5;
  request.prompt_logprobs = 3;
  bench.Generate(request);
  size_t before = bench.core.ledger_bytes();
  const auto grown = [&] {
    bench.Step(link);
    return bench.core.ledger_bytes() - std::exchange(before, bench.core.ledger_bytes());
  };
  const size_t of_an_id = sizeof(int32_t) + sizeof(TokenLogprobs) + 5 * sizeof(TokenLogprobs::Top);
  const size_t of_the_prompt = 3 * (sizeof(TokenLogprobs) + 3 * sizeof(TokenLogprobs::Top));
  EXPECT_EQ(grown(), of_the_prompt + of_an_id);
  EXPECT_EQ(grown(), of_an_id);
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, WhatHasEndedMakesRoomInTheLedger) {
  CoreBench bench({.max_ledger_bytes = 5000});
  bench.Up();
  auto request = Request("a", 2);
  request.detach_s = 600;
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(bench.clients[bench.Generate(request)].error.has_value());
    bench.RunToEnd();
  }
  EXPECT_LE(bench.core.n_requests(), 3u);
}

TEST(ControllerTest, APromptGoesToWhereItsPrefixIsUnlessThatIsMuchBusier) {
  CoreBench bench;
  auto info = Info();
  info.context_length = 1000;
  info.credits.sequences = 10;
  const uint64_t first = bench.Up(info), second = bench.Up(info);
  const std::string prefix(300, 'c');
  bench.Generate(Request(prefix + "a", 4));
  bench.RunToEnd();
  bench.Generate(Request("b", 8));  // as idle, the first is the first choice
  bench.Generate(Request("d", 20));
  ASSERT_EQ(bench.KeysOn(first).size(), 1u);
  ASSERT_EQ(bench.KeysOn(second).size(), 1u);
  bench.Generate(Request("ddd", 200));
  const uint64_t loaded = bench.KeysOn(first).size() == 2 ? first : second;
  const uint64_t idle = loaded == first ? second : first;
  ASSERT_EQ(loaded, first);
  bench.Generate(Request(prefix + "b", 4));
  EXPECT_EQ(bench.KeysOn(first).size(), 3u) << "the tokens saved are more than the load";
  bench.Generate(Request("abab", 400));  // on the idle one
  EXPECT_EQ(bench.KeysOn(idle).size(), 2u);
}

// ---- Replicas that leave, requests that an operator ends.

TEST(ControllerTest, ADrainedReplicaFinishesWhatItHasAndLeaves) {
  CoreBench bench;
  const uint64_t first = bench.Up(), second = bench.Up();
  const auto request = Request("once", 9);
  const uint64_t key = bench.Generate(request);
  ASSERT_THAT(bench.submits, ElementsAre(Pair(first, 1u)));
  ASSERT_TRUE(bench.Drain(first).ok());
  for (int i = 0; i < 4; ++i) bench.Generate(Request("a", 5));
  EXPECT_EQ(bench.KeysOn(first).size(), 1u);
  EXPECT_EQ(bench.KeysOn(second).size(), 4u);
  EXPECT_THAT(bench.sent_home, IsEmpty());
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[key].ids, Expected(request));
  EXPECT_THAT(bench.sent_home, ElementsAre(first));
  bench.Down(first);
  EXPECT_EQ(bench.core.counters().replicas_lost, 0);
  EXPECT_EQ(bench.core.counters().replayed, 0);
  EXPECT_EQ(bench.Drain(first).code(), absl::StatusCode::kNotFound);
}

TEST(ControllerTest, ADrainedReplicaWithoutWorkLeavesAtOnceAndRequestsWaitForTheNext) {
  CoreBench bench;
  const uint64_t first = bench.Up();
  ASSERT_TRUE(bench.Drain(first).ok());
  EXPECT_THAT(bench.sent_home, ElementsAre(first));
  const auto request = Request("once", 9);
  const uint64_t key = bench.Generate(request);
  EXPECT_THAT(bench.submits, IsEmpty());
  bench.Down(first);
  bench.Up();
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[key].ids, Expected(request));
}

TEST(ControllerTest, ReplicasAreReadyByModelUnlessTheyAreDrained) {
  using testing::UnorderedElementsAre;
  CoreBench bench;
  EXPECT_THAT(bench.core.ReadyReplicas(), IsEmpty());
  const uint64_t first = bench.Up();
  bench.Up(Info("other"));
  const std::string name = Info().model;
  EXPECT_THAT(bench.core.ReadyReplicas(), UnorderedElementsAre(Pair(name, 1u), Pair("other", 1u)));
  GenerateRequest request = Request("once", 9);
  request.model = name;
  bench.Generate(request);
  ASSERT_TRUE(bench.Drain(first).ok());
  EXPECT_THAT(bench.core.ReadyReplicas(), UnorderedElementsAre(Pair(name, 0u), Pair("other", 1u)));
  const uint64_t waits = bench.Generate(request);
  EXPECT_THAT(bench.clients[waits].last_waiting, HasSubstr("drained"));
}

TEST(ControllerTest, OnceClosedItRefusesNewRequestsAndGoesOnWithTheOthers) {
  CoreBench bench;
  bench.Up();
  const auto request = Request("once", 9);
  const uint64_t key = bench.Generate(request);
  bench.core.Close();
  const uint64_t late = bench.Generate(request);
  ASSERT_TRUE(bench.clients[late].error.has_value());
  EXPECT_EQ(bench.clients[late].error->code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(bench.core.ReadyReplicas().begin()->second, 0u);
  EXPECT_EQ(bench.core.n_open(), 1u);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[key].ids, Expected(request));
  EXPECT_EQ(bench.core.n_open(), 0u);
}

TEST(ControllerTest, AnOperatorEndsARequestByItsId) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 9);
  request.request_id = "x";
  request.tenant = "one";
  const uint64_t of_one = bench.Generate(request);
  request.tenant = "two";
  const uint64_t of_two = bench.Generate(request);
  EXPECT_EQ(bench.Abort("y"), 0);
  EXPECT_EQ(bench.Abort("x", "two"), 1);
  EXPECT_EQ(bench.clients[of_two].error->code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(bench.clients[of_one].ended());
  EXPECT_EQ(bench.Abort("x"), 1);
  EXPECT_TRUE(bench.clients[of_one].ended());
  bench.Step(link);
  bench.ExpectEmpty();
}

// ---- Requests that end the replicas they run on.

// Each lost replica comes back at once, until `n` were lost while they had `sequence`.
struct Killer {
  CoreBench& bench;
  uint64_t key;  // the request that ends every replica that runs it
  int n_killed = 0;

  bool RunsOn(uint64_t link) const {
    const auto keys = bench.KeysOn(link);
    return std::ranges::count(keys, key) > 0;
  }

  // One step of every replica; those that run the killer die of it, and come back.
  void StepAll() {
    std::vector<uint64_t> links;
    for (const auto& [link, replica] : bench.replicas) links.push_back(link);
    for (uint64_t link : links) {
      if (bench.replicas.at(link).AwaitsAlone()) {
        bench.Report(link, bench.replicas.at(link).Step([] { return 0; }));
      } else if (RunsOn(link)) {
        bench.Down(link, "SIGSEGV");
        ++n_killed;
        bench.Up();
      } else {
        bench.Step(link);
      }
    }
  }
};

TEST(ControllerTest, ARequestThatEndsEveryReplicaIsFoundAndTheOthersLive) {
  CoreBench bench;
  bench.Up();
  std::vector<GenerateRequest> requests;
  std::vector<uint64_t> keys;
  for (int i = 0; i < 5; ++i) {
    requests.push_back(Request(std::string(1, static_cast<char>('a' + i)), 40, i));
    keys.push_back(bench.Generate(requests.back()));
  }
  Killer killer{bench, keys[2]};
  for (int i = 0; i < 400 && bench.core.n_requests() > 0; ++i) killer.StepAll();
  EXPECT_EQ(killer.n_killed, 4);  // twice with others, twice alone
  for (int i = 0; i < 5; ++i) {
    const auto& client = bench.clients[keys[i]];
    if (i == 2) {
      ASSERT_TRUE(client.error.has_value());
      EXPECT_EQ(client.error->code(), absl::StatusCode::kInternal);
      EXPECT_THAT(Message(*client.error), HasSubstr("ended 4 replicas in a row"));
      EXPECT_THAT(Message(*client.error), HasSubstr("SIGSEGV"));
    } else {
      EXPECT_EQ(client.ids, Expected(requests[i])) << i;
    }
  }
  bench.ExpectEmpty();
}

TEST(ControllerTest, SuspectsRunAloneOneAfterTheOtherUntilTheyArePastTheLoss) {
  CoreBench bench;
  bench.Up();
  const auto request = Request("a", 60);
  const uint64_t first = bench.Generate(request), second = bench.Generate(request);
  for (int i = 0; i < 2; ++i) {
    const uint64_t link = bench.core.replicas().begin()->first;
    bench.Step(link);
    bench.Down(link);
    bench.Up();
  }
  const uint64_t link = bench.core.replicas().begin()->first;
  const auto runs = [&] { return bench.KeysOn(link); };
  EXPECT_THAT(runs(), ElementsAre(first));
  const uint64_t third = bench.Generate(request);  // waits: nothing runs beside a suspect
  EXPECT_THAT(runs(), ElementsAre(first));
  for (int i = 0; i < 8; ++i) bench.Step(link);  // the first is cleared, and makes way
  bench.Step(link);                              // … once the replica has dropped it
  EXPECT_THAT(runs(), ElementsAre(second));
  for (int i = 0; i < 8; ++i) bench.Step(link);
  EXPECT_THAT(runs(), testing::UnorderedElementsAre(first, second, third));
  bench.RunToEnd();
  for (uint64_t key : {first, second, third}) {
    EXPECT_EQ(bench.clients[key].ids, Expected(request));
  }
  bench.ExpectEmpty();
}

TEST(ControllerTest, OneReplicaIsolatesAndTheOtherGoesOn) {
  CoreBench bench;
  bench.Up();
  const auto request = Request("a", 60);
  const uint64_t suspect = bench.Generate(request);
  for (int i = 0; i < 2; ++i) {
    const uint64_t link = bench.core.replicas().begin()->first;
    bench.Down(link);
    if (i == 0) bench.Up();
  }
  const uint64_t a = bench.Up();
  const uint64_t b = bench.Up();
  std::vector<uint64_t> keys;
  for (int i = 0; i < 4; ++i) keys.push_back(bench.Generate(request));
  EXPECT_EQ(bench.core.replicas().at(a).running.size(), 1u);
  EXPECT_EQ(bench.core.replicas().at(b).running.size(), 4u);
  EXPECT_THAT(bench.KeysOn(a), ElementsAre(suspect));
  bench.RunToEnd();
  for (uint64_t key : keys) EXPECT_EQ(bench.clients[key].ids, Expected(request));
  bench.ExpectEmpty();
}

TEST(ControllerTest, TheNextSuspectWaitsForTheReplicaThatIsolates) {
  CoreBench bench;
  bench.Up();
  const auto request = Request("a", 60);
  const uint64_t first = bench.Generate(request), second = bench.Generate(request);
  for (int i = 0; i < 2; ++i) {
    bench.Down(bench.core.replicas().begin()->first);
    if (i == 0) bench.Up();
  }
  const uint64_t a = bench.Up(), b = bench.Up();
  EXPECT_THAT(bench.KeysOn(a), ElementsAre(first));
  EXPECT_THAT(bench.KeysOn(b), IsEmpty());
  const uint64_t third = bench.Generate(request);  // not held up by them
  EXPECT_THAT(bench.KeysOn(b), ElementsAre(third));
  bench.RunToEnd();
  for (uint64_t key : {first, second, third}) {
    EXPECT_EQ(bench.clients[key].ids, Expected(request));
  }
  bench.ExpectEmpty();
}

TEST(ControllerTest, ASuspectIsGivenABusyReplicaWhoseRequestsGoOn) {
  CoreBench bench;
  const uint64_t a = bench.Up();
  const auto request = Request("a", 60);
  const uint64_t suspect = bench.Generate(request);
  bench.Down(a);
  bench.Down(bench.Up());
  const uint64_t c = [&] {  // it comes back with the suspect; another replica is busy meanwhile
    return bench.Up();
  }();
  EXPECT_THAT(bench.KeysOn(c), ElementsAre(suspect));
  const uint64_t d = bench.Up();
  const uint64_t other = bench.Generate(request);
  EXPECT_THAT(bench.KeysOn(d), ElementsAre(other));
  bench.Step(d);
  bench.Down(c);  // for the second time alone would fail it; this is the first
  EXPECT_THAT(bench.cancels, ElementsAre(Pair(d, testing::_)));
  bench.Step(d);  // drops the other one
  EXPECT_THAT(bench.KeysOn(d), ElementsAre(suspect));
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[other].ids, Expected(request));
  EXPECT_EQ(bench.clients[suspect].ids, Expected(request));
}

// Requests of other controllers may be what ended a replica, until it has said that the suspect is
// alone.
TEST(ControllerTest, AReplicaIsEndedByTheOneThatItSaysIsAlone) {
  CoreBench bench;
  const auto request = Request("a", 60);
  uint64_t link = bench.Up();
  const uint64_t suspect = bench.Generate(request);
  const auto say = [&](bool told) {
    StepReport report;
    const uint64_t id = bench.handed_over.back().id;
    const int32_t n = static_cast<int32_t>(bench.handed_over.back().emitted_ids.size());
    if (told) report.deltas.push_back({.id = id, .offset = n, .alone = true});
    bench.Report(link, report);
  };
  const auto lose = [&](bool told) {
    say(told);
    bench.Down(link);
    link = bench.Up();
  };
  bench.Step(link);
  EXPECT_EQ(bench.handed_over.back().alone_ids, 0);
  for (int i = 0; i < 6; ++i) lose(false);
  EXPECT_EQ(bench.handed_over.back().alone_ids, 1 + 16) << "well past the loss";
  lose(true);
  lose(false);
  say(true);
  link = bench.Up(Info(), bench.core.replicas().at(link).instance);  // it lives: it dials again
  EXPECT_FALSE(bench.clients[suspect].ended());
  lose(true);
  ASSERT_TRUE(bench.clients[suspect].error.has_value());
  EXPECT_THAT(Message(*bench.clients[suspect].error), HasSubstr("ended 9 replicas in a row"));
  bench.ExpectEmpty();
}

TEST(ControllerTest, AProcessThatDialsAgainWasNotEndedByItsRequests) {
  CoreBench bench;
  bench.Up(Info(), 77);
  const auto request = Request("a", 60);
  const uint64_t one = bench.Generate(request), two = bench.Generate(request);
  for (int i = 0; i < 3; ++i) bench.Up(Info(), 77);
  EXPECT_EQ(bench.core.replicas().begin()->second.running.size(), 2u);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[one].ids, Expected(request));
  EXPECT_EQ(bench.clients[two].ids, Expected(request));
}

TEST(ControllerTest, AProcessThatDialsAgainAfterItsLinkBrokeIsNoLoss) {
  CoreBench bench;
  const auto request = Request("a", 60);
  uint64_t link = bench.Up(Info(), 77);
  const uint64_t one = bench.Generate(request), two = bench.Generate(request);
  for (int i = 0; i < 5; ++i) {
    bench.Step(link);
    bench.Down(link, "the connection broke");
    link = bench.Up(Info(), 77);
    EXPECT_EQ(bench.KeysOn(link).size(), 2u) << "no suspect";
  }
  // Those that did end it are suspects after two.
  bench.Down(link);
  bench.Up(Info(), 78);
  bench.Down(bench.core.replicas().begin()->first);
  bench.Up(Info(), 79);
  EXPECT_THAT(bench.KeysOn(bench.core.replicas().begin()->first), ElementsAre(one));
  // One that waited alone joins the other as soon as its process is back.
  bench.Up(Info(), 78);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[one].ids, Expected(request));
  EXPECT_EQ(bench.clients[two].ids, Expected(request));
  bench.ExpectEmpty();
}

TEST(ControllerTest, ALossIsToldWithTheRequestsThatTheReplicaHad) {
  CoreBench bench;
  ReplicaInfo info = Info();
  info.number = 3;
  const uint64_t link = bench.Up(info);
  auto request = Request("a", 60);
  for (const char* id : {"x", "y"}) {
    request.request_id = id;
    bench.Generate(request);
  }
  bench.Down(link, "killed");
  ASSERT_EQ(bench.lost.size(), 1u);
  EXPECT_EQ(bench.lost[0].number, 3);
  EXPECT_EQ(bench.lost[0].reason, "killed");
  EXPECT_THAT(bench.lost[0].requests, ElementsAre("x", "y"));
  EXPECT_THAT(bench.lost[0].line, HasSubstr("replica 3 of "));
}

TEST(ControllerTest, WhoeverStartedASilentReplicaIsTold) {
  CoreBench bench;
  ReplicaInfo info = Info();
  info.number = 3;
  const uint64_t link = bench.Up(info);
  bench.Advance(20);
  EXPECT_THAT(bench.silent, ElementsAre(Pair(link, 3)));
  bench.Down(bench.Up(info));
  EXPECT_EQ(bench.silent.size(), 1u);  // a link that breaks tells of itself
}

TEST(ControllerTest, InAnOutageRequestsEndWithTheReasonUntilAReplicaComes) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const auto request = Request("a", 9);
  const uint64_t waiting = bench.Generate(request);
  bench.Step(link);
  bench.Outage("not while one is up");
  EXPECT_FALSE(bench.clients[waiting].ended());
  bench.Down(link);
  bench.Outage("no such disk");
  EXPECT_EQ(bench.clients[waiting].error, Unavailable("no replica: no such disk"));
  const uint64_t refused = bench.Generate(request);
  EXPECT_EQ(bench.clients[refused].error, Unavailable("no replica: no such disk"));
  EXPECT_FALSE(bench.clients[refused].accepted.has_value());
  bench.Up();
  const uint64_t served = bench.Generate(request);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[served].ids, Expected(request));
  bench.ExpectEmpty();

  // The next loss is another matter.
  bench.Down(bench.core.replicas().begin()->first);
  const uint64_t waits = bench.Generate(request);
  EXPECT_FALSE(bench.clients[waits].ended());
}

TEST(ControllerTest, AControllerThatWasStoppedItselfLosesNobody) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  bench.now += std::chrono::minutes(10);
  bench.Advance(0);  // the tick comes ten minutes late
  EXPECT_FALSE(bench.closed.contains(link));
  bench.Advance(60);
  EXPECT_TRUE(bench.closed.contains(link));
}

TEST(ControllerTest, ANewLinkOfAProcessReplacesItsOldOne) {
  CoreBench bench;
  const uint64_t old_link = bench.Up(Info(), /*instance=*/77);
  const auto request = Request("once", 12);
  const uint64_t key = bench.Generate(request);
  bench.Step(old_link);
  const uint64_t new_link = bench.Up(Info(), /*instance=*/77);
  EXPECT_TRUE(bench.closed.contains(old_link));
  EXPECT_EQ(bench.submits.back().first, new_link);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[key].ids, Expected(request));
}

TEST(ControllerTest, RefusesAReplicaThatMeansSomethingElseByTheName) {
  CoreBench bench;
  bench.Up();
  auto info = Info();
  info.eos_ids = {3};
  const uint64_t link = bench.Up(info);
  ASSERT_TRUE(bench.closed.contains(link));
  EXPECT_TRUE(bench.closed[link].rejected);
  EXPECT_THAT(bench.closed[link].reason, HasSubstr("different end-of-text ids"));
}

TEST(ControllerTest, CancelFreesTheReplica) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const uint64_t key = bench.Generate(Request("a", 50));
  bench.Step(link);
  bench.Cancel(key);
  EXPECT_EQ(bench.clients[key].error->code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(bench.cancels, ElementsAre(Pair(link, 1u)));
  bench.Cancel(key);  // again: nothing
  bench.RunToEnd();
  EXPECT_EQ(bench.core.counters().cancelled, 1);
  bench.ExpectEmpty();
}

TEST(ControllerTest, ACancelledSequenceHoldsItsPlaceUntilItHasEnded) {
  CoreBench bench;
  auto info = Info();
  info.credits.sequences = 2;
  const uint64_t link = bench.Up(info);
  const uint64_t first = bench.Generate(Request("a", 50));
  bench.Generate(Request("a", 50));
  bench.Generate(Request("a", 50));
  bench.Cancel(first);
  EXPECT_EQ(bench.submits.size(), 2u);  // its blocks are not free yet
  bench.Step(link);
  EXPECT_EQ(bench.submits.size(), 3u);
}

TEST(ControllerTest, CancelInTheQueue) {
  CoreBench bench;
  bench.Down(bench.Up());
  const uint64_t key = bench.Generate(Request("a", 50));
  EXPECT_EQ(bench.clients[key].n_waiting, 1);
  bench.Cancel(key);
  EXPECT_EQ(bench.clients[key].error->code(), absl::StatusCode::kCancelled);
  bench.ExpectEmpty();
}

TEST(ControllerTest, DeadlineBeforeTheFirstIdIsAnErrorAndAfterItAFinish) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Request("a", 50);
  request.timeout_s = 3;
  request.stop = {"xyz"};
  const uint64_t late = bench.Generate(request), begun = bench.Generate(request);
  bench.Report(link, {.deltas = {DeltaOf(2, 0, "abx")}});
  bench.Advance(2.9);
  EXPECT_FALSE(bench.clients[late].ended() || bench.clients[begun].ended());
  bench.Advance(0.2);
  EXPECT_EQ(bench.clients[late].error->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(bench.clients[begun].finished->reason, FinishReason::kDeadline);
  EXPECT_EQ(bench.clients[begun].text, "abx");
  EXPECT_THAT(bench.cancels, ElementsAre(Pair(link, 1u), Pair(link, 2u)));
  bench.RunToEnd();
  bench.ExpectEmpty();
}

TEST(ControllerTest, GoesToTheReplicaWithTheFewestTokensLeft) {
  CoreBench bench;
  const uint64_t a = bench.Up(), b = bench.Up();
  bench.Generate(Request("abcdefghij", 20));  // 30 left on a
  EXPECT_EQ(bench.submits.back().first, a);
  bench.Generate(Request("abcde", 10));  // 15 left on b
  EXPECT_EQ(bench.submits.back().first, b);
  bench.Generate(Request("abcde", 8));  // 28 left on b
  EXPECT_EQ(bench.submits.back().first, b);
  bench.Step(a);  // prefilled, and one id: 19 left on a
  EXPECT_EQ(bench.core.replicas().at(a).tokens_left, 19);
  bench.Generate(Request("a", 3));
  EXPECT_EQ(bench.submits.back().first, a);
}

TEST(ControllerTest, QueuesWhatReplicasHaveNoRoomForByPriorityThenAge) {
  CoreBench bench({.replica_timeout = std::chrono::minutes(1)});
  auto info = Info();
  info.credits.sequences = 2;
  bench.Up(info);
  bench.Generate(Request("a", 5));
  bench.Generate(Request("a", 5));
  auto request = Request("b", 5);
  const uint64_t third = bench.Generate(request);
  bench.Generate(Request("c", 5));
  request = Request("u", 5);
  request.priority = 1;
  bench.Generate(request);
  EXPECT_EQ(bench.core.n_waiting(), 3u);
  EXPECT_EQ(bench.submits.size(), 2u);
  bench.Advance(11);
  EXPECT_EQ(bench.clients[third].last_waiting, "every replica of tiny is full");
  bench.RunToEnd();
  std::vector<std::vector<int32_t>> order;
  for (const auto& sequence : bench.handed_over) order.push_back(sequence.prompt_ids);
  EXPECT_THAT(order, ElementsAre(Ids("a"), Ids("a"), Ids("u"), Ids("b"), Ids("c")));
  bench.ExpectEmpty();
}

TEST(ControllerTest, AtMostMaxRequestsAtOnce) {
  CoreBench bench({.max_requests = 2});
  bench.Up();
  bench.Generate(Request("a", 5));
  bench.Generate(Request("a", 5));
  const uint64_t key = bench.Generate(Request("a", 5));
  EXPECT_EQ(bench.clients[key].error->code(), absl::StatusCode::kResourceExhausted);
  bench.RunToEnd();
  EXPECT_FALSE(bench.clients[bench.Generate(Request("a", 5))].error.has_value());
}

TEST(ControllerTest, AReplicasErrorIsTheRequestsError) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const uint64_t key = bench.Generate(Request("a", 5));
  bench.Report(link, {.deltas = {{.id = 1, .finish = FinishReason::kError, .error = "no blocks"}}});
  EXPECT_EQ(bench.clients[key].error->code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(*bench.clients[key].error), HasSubstr("no blocks"));
  bench.ExpectEmpty();
}

TEST(ControllerTest, TimesAreByItsClock) {
  CoreBench bench;
  bench.Down(bench.Up());
  const uint64_t key = bench.Generate(Request("a", 3));
  bench.Advance(1);
  const uint64_t link = bench.Up();
  bench.Advance(0.5);
  bench.Report(link, {.deltas = {{.id = 1, .ids = {1}, .cached_tokens = 1}}});
  bench.Advance(0.25);
  bench.Report(link, {.deltas = {{.id = 1, .offset = 1, .ids = {1}}}});
  bench.Advance(0.25);
  bench.Report(link,
               {.deltas = {{.id = 1, .offset = 2, .ids = {1}, .finish = FinishReason::kLength}}});
  const Finished& finished = *bench.clients[key].finished;
  EXPECT_DOUBLE_EQ(finished.timings.queue_s, 1);
  EXPECT_DOUBLE_EQ(finished.timings.ttft_s, 1.5);
  EXPECT_DOUBLE_EQ(finished.timings.tbt_s_mean, 0.25);
  EXPECT_DOUBLE_EQ(finished.timings.total_s, 2);
  EXPECT_EQ(finished.usage.cached_tokens, 1);
}

TEST(ControllerTest, ServesSeveralModels) {
  CoreBench bench;
  const uint64_t a = bench.Up(Info("a", "fa")), b = bench.Up(Info("b", "fb"));
  auto request = Request("x", 4);
  EXPECT_EQ(bench.clients[bench.Generate(request)].error->code(),
            absl::StatusCode::kInvalidArgument);  // which one?
  request.model = "c";
  EXPECT_EQ(bench.clients[bench.Generate(request)].error->code(), absl::StatusCode::kNotFound);
  request.model = "b";
  bench.Generate(request);
  request.model = "a";
  bench.Generate(request);
  EXPECT_THAT(bench.submits, ElementsAre(Pair(b, 1u), Pair(a, 2u)));
}

TEST(ControllerTest, UnavailableBeforeAnyReplica) {
  CoreBench bench;
  EXPECT_EQ(bench.clients[bench.Generate(Request("x", 4))].error->code(),
            absl::StatusCode::kUnavailable);
}

TEST(ControllerTest, ShutdownEndsEverything) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const uint64_t key = bench.Generate(Request("a", 5));
  bench.Shutdown(/*stop_replicas=*/true);
  EXPECT_EQ(bench.clients[key].error->code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(bench.sent_home.contains(link));
  EXPECT_EQ(bench.clients[bench.Generate(Request("a", 5))].error->code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace trireme
