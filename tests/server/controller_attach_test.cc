// Clients that go and come back, and controllers that are started again.
#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/core_bench.h"

namespace trireme {
namespace {

using absl::StatusCode;
using test::CoreBench;
using test::Ids;
using testing::HasSubstr;
using testing::IsEmpty;

GenerateRequest Request(int32_t max_tokens) {
  GenerateRequest request;
  request.ids = Ids("once");
  request.max_tokens = max_tokens;
  request.seed = 1;
  request.ignore_eos = true;
  request.request_id = "mine";
  request.digest = "d";
  return request;
}

GenerateRequest Detached(int32_t max_tokens, double ttl_s = 20) {
  GenerateRequest request = Request(max_tokens);
  request.detach_s = ttl_s;
  return request;
}

std::vector<int32_t> Expected(const GenerateRequest& request) {
  SequenceRequest sequence;
  sequence.prompt_ids = request.ids;
  sequence.sampling.seed = *request.seed;
  sequence.max_tokens = *request.max_tokens;
  return test::Undisturbed(sequence);
}

ControllerOptions Recording() { return {.records = true, .comeback = std::chrono::seconds(8)}; }

absl::StatusCode ErrorOf(const test::ClientLog& client) {
  return client.error.has_value() ? client.error->code() : StatusCode::kOk;
}

TEST(ControllerAttachTest, ARequestIsRunOnceAndItsLastStreamIsTold) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const auto request = Request(9);
  const uint64_t first = bench.Generate(request);
  bench.Step(link);
  const uint64_t second = bench.Generate(request);
  EXPECT_EQ(ErrorOf(bench.clients[first]), StatusCode::kAborted);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[second].ids, Expected(request));  // from the first on
  EXPECT_EQ(bench.handed_over.size(), 1u);
  EXPECT_TRUE(bench.clients[bench.Generate(request)].accepted.has_value());  // anew
  EXPECT_EQ(bench.handed_over.size(), 2u);
}

TEST(ControllerAttachTest, AnotherRequestOfThatIdIsRefused) {
  CoreBench bench;
  bench.Up();
  const uint64_t first = bench.Generate(Request(9));
  auto other = Request(9);
  other.digest = "another";
  EXPECT_EQ(ErrorOf(bench.clients[bench.Generate(other)]), StatusCode::kAlreadyExists);
  other.tenant = "b";  // has names of its own
  EXPECT_EQ(ErrorOf(bench.clients[bench.Generate(other)]), StatusCode::kOk);
  EXPECT_FALSE(bench.clients[first].ended());
}

TEST(ControllerAttachTest, WithoutDetachAStreamThatBreaksIsTheEnd) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const uint64_t key = bench.Generate(Request(9));
  bench.Gone(key);
  EXPECT_EQ(ErrorOf(bench.clients[key]), StatusCode::kCancelled);
  EXPECT_EQ(bench.cancels.size(), 1u);
  bench.Step(link);
  bench.ExpectEmpty();
}

TEST(ControllerAttachTest, ADetachedRequestGoesOnAndItsClientGetsTheRest) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const auto request = Detached(9);
  const uint64_t key = bench.Generate(request);
  for (int i = 0; i < 3; ++i) bench.Step(link);
  bench.Gone(key);
  for (int i = 0; i < 3; ++i) bench.Step(link);
  const uint64_t back = bench.ComeBack(key, request);
  EXPECT_EQ(bench.clients[back].ids.size(), 6u);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[back].ids, Expected(request));
  EXPECT_EQ(bench.handed_over.size(), 1u);
  bench.core.Heartbeat(bench.now, link);
}

TEST(ControllerAttachTest, LogprobsOfTheRestComeWithIt) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Detached(9);
  request.logprobs = 1;
  request.prompt_logprobs = 1;
  for (const int n_steps : {0, 3}) {  // the client has nothing, or some
    request.request_id += "'";
    const uint64_t key = bench.Generate(request);
    for (int i = 0; i < n_steps; ++i) bench.Step(link);
    bench.Gone(key);
    for (int i = 0; i < 3; ++i) bench.Step(link);
    const uint64_t back = bench.ComeBack(key, request);
    bench.RunToEnd();
    const auto& client = bench.clients[back];
    EXPECT_EQ(client.ids, Expected(request));
    ASSERT_EQ(client.logprobs.size(), client.ids.size());
    for (size_t i = 0; i < client.ids.size(); ++i) {
      EXPECT_EQ(client.logprobs[i], test::LogprobsOf(client.ids[i], i));
    }
    EXPECT_EQ(client.prompt_logprobs.size(), request.ids.size() - 1);
  }
}

TEST(ControllerAttachTest, WhatEndedWithoutItsClientWaitsForIt) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Detached(6);
  request.n = 2;
  const uint64_t key = bench.Generate(request);
  bench.Step(link);
  bench.Gone(key);
  bench.RunToEnd();
  const uint64_t back = bench.ComeBack(key, request);
  ASSERT_TRUE(bench.clients[back].last);
  EXPECT_EQ(bench.clients[back].ids, Expected(request));
  EXPECT_EQ(bench.clients[back].choice(1).ids.size(), 6u);
  EXPECT_EQ(bench.clients[back].finished->reason, FinishReason::kLength);
}

TEST(ControllerAttachTest, ARequestThatNobodyComesBackForIsCancelled) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const auto request = Detached(9, /*ttl_s=*/3);
  const uint64_t key = bench.Generate(request);
  bench.Gone(key);
  bench.Advance(2.9);
  EXPECT_EQ(bench.core.n_requests(), 1u);
  bench.Advance(0.2);
  EXPECT_EQ(bench.cancels.size(), 1u);
  bench.Step(link);
  bench.ExpectEmpty();
  EXPECT_EQ(ErrorOf(bench.clients[bench.ComeBack(key, request)]), StatusCode::kNotFound);
}

TEST(ControllerAttachTest, AnErrorWaitsForTheClientToo) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  const auto request = Detached(9);
  const uint64_t key = bench.Generate(request);
  bench.Gone(key);
  bench.Report(link, {.deltas = {{.id = 1, .finish = FinishReason::kError, .error = "no blocks"}}});
  const uint64_t back = bench.ComeBack(key, request);
  EXPECT_THAT(Message(*bench.clients[back].error), HasSubstr("no blocks"));
}

TEST(ControllerAttachTest, SaysWhatIsWrongWithWhatAClientHolds) {
  CoreBench bench;
  bench.Up();
  bench.Generate(Detached(9));
  const auto held = [&](uint32_t choice, Held held) {
    auto request = Detached(9);
    request.resume = {{choice, held}};
    return *bench.clients[bench.Generate(request)].error;
  };
  EXPECT_EQ(held(0, {.n_ids = 4}).code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(held(0, {.n_ids = 4})), HasSubstr("holds 4 ids of choice 0"));
  EXPECT_THAT(Message(held(1, {})), HasSubstr("choice 1 of 1"));
  EXPECT_THAT(Message(held(0, {.n_ids = -1})), HasSubstr("at least 0"));
}

TEST(ControllerAttachTest, TextThatWasHeldBackComesWithTheRest) {
  CoreBench bench;
  const uint64_t link = bench.Up();
  auto request = Detached(9);
  request.stop = {"stop"};
  const uint64_t key = bench.Generate(request);
  bench.Report(link, {.deltas = {{.id = 1, .offset = 0, .ids = Ids("a sto")}}});
  EXPECT_EQ(bench.clients[key].text, "a ");
  bench.Gone(key);
  bench.Report(link, {.deltas = {{.id = 1, .offset = 5, .ids = Ids("re")}}});
  const uint64_t back = bench.ComeBack(key, request);
  EXPECT_EQ(bench.clients[back].text, "a store");
}

// ---- The controller is started again.

TEST(ControllerAttachTest, AControllerThatIsStartedAgainGoesOn) {
  CoreBench bench(Recording());
  const uint64_t link = bench.Up();
  const auto request = Detached(12);
  const uint64_t key = bench.Generate(request);
  for (int i = 0; i < 5; ++i) bench.Step(link);
  bench.Restart(bench.records.size());
  const uint64_t again = bench.Up();
  ASSERT_EQ(bench.handed_over.size(), 2u);  // without its client
  EXPECT_EQ(bench.handed_over.back().emitted_ids.size(), 5u);
  bench.Step(again);
  const uint64_t back = bench.ComeBack(key, request);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[back].ids, Expected(request));
}

TEST(ControllerAttachTest, WithoutDetachTheNextControllerRunsItOnceItsClientIsBack) {
  CoreBench bench(Recording());
  bench.Step(bench.Up());
  const auto request = Request(12);
  const uint64_t key = bench.Generate(request);
  bench.Restart(bench.records.size());
  bench.Up();
  EXPECT_EQ(bench.handed_over.size(), 1u);
  const uint64_t back = bench.ComeBack(key, request);
  EXPECT_EQ(bench.handed_over.size(), 2u);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[back].ids, Expected(request));
}

TEST(ControllerAttachTest, AClientThatComesBackAfterAReplicaOfOtherWeightsIsToldSo) {
  CoreBench bench(Recording());
  const uint64_t link = bench.Up();
  const auto request = Request(12);
  const uint64_t key = bench.Generate(request);
  bench.Step(link);
  bench.Restart(bench.records.size());
  bench.Up(test::Info("tiny", "f2"));
  const uint64_t back = bench.ComeBack(key, request);
  EXPECT_EQ(ErrorOf(bench.clients[back]), StatusCode::kAborted);
  bench.Advance(9);
  bench.ExpectEmpty();
}

TEST(ControllerAttachTest, TheNextControllerCancelsWhatNobodyComesBackFor) {
  CoreBench bench(Recording());
  bench.Up();
  bench.Generate(Request(12));
  bench.Restart(bench.records.size());
  EXPECT_EQ(bench.core.n_requests(), 1u);
  bench.Advance(9);
  bench.ExpectEmpty();
  EXPECT_THAT(Restore(bench.records), IsEmpty());
}

TEST(ControllerAttachTest, ADeadlineHoldsBeyondTheController) {
  CoreBench bench(Recording());
  const uint64_t link = bench.Up();
  auto request = Detached(12);
  request.timeout_s = 4;
  const uint64_t key = bench.Generate(request);
  bench.Step(link);
  bench.Restart(bench.records.size());
  bench.Advance(5);
  const uint64_t back = bench.ComeBack(key, request);
  ASSERT_TRUE(bench.clients[back].finished.has_value());
  EXPECT_EQ(bench.clients[back].finished->reason, FinishReason::kDeadline);
  EXPECT_EQ(bench.clients[back].ids.size(), 1u);
}

TEST(ControllerAttachTest, AnOrderlyShutdownKeepsTheLedger) {
  CoreBench bench(Recording());
  const uint64_t link = bench.Up();
  const auto request = Request(12);
  const uint64_t key = bench.Generate(request);
  bench.Step(link);
  bench.Shutdown(/*stop_replicas=*/false);
  EXPECT_EQ(ErrorOf(bench.clients[key]), StatusCode::kUnavailable);
  EXPECT_THAT(Message(*bench.clients[key].error), HasSubstr("come back with request_id mine"));
  bench.Restart(bench.records.size());
  bench.Up();
  const uint64_t back = bench.ComeBack(key, request);
  bench.RunToEnd();
  EXPECT_EQ(bench.clients[back].ids, Expected(request));
}

TEST(ControllerAttachTest, WhatNoControllerCanHaveWrittenIsLeftOut) {
  using Spoil = void (*)(RequestRecord&);
  const std::vector<Spoil> spoilers = {
      [](RequestRecord& r) { r.n = 0; },
      [](RequestRecord& r) { r.n = INT32_MAX; },
      [](RequestRecord& r) { r.weight = 0; },
      [](RequestRecord& r) { r.weight = std::nan(""); },
      [](RequestRecord& r) { r.sequence.prompt_ids.clear(); },
      [](RequestRecord& r) { r.sequence.prompt_ids[0] = -1; },
      [](RequestRecord& r) { r.sequence.prompt_ids[0] = INT32_MAX; },
      [](RequestRecord& r) { r.sequence.max_tokens = 2; },  // it has more
      [](RequestRecord& r) { r.sequence.min_tokens = -1; },
      [](RequestRecord& r) { r.sequence.logprobs = 1; },  // it has none
  };
  for (size_t i = 0; i < spoilers.size(); ++i) {
    CoreBench bench(Recording());
    const uint64_t link = bench.Up();
    bench.Generate(Detached(12));
    for (int step = 0; step < 3; ++step) bench.Step(link);
    for (LedgerRecord& record : bench.records) {
      if (auto* request = std::get_if<RequestRecord>(&record)) spoilers[i](*request);
    }
    bench.Restart(bench.records.size());
    EXPECT_EQ(bench.core.n_requests(), 0u) << "spoiler " << i;
  }
}

TEST(ControllerAttachTest, OfTwoRequestsOfOneIdOneIsLeftOut) {
  CoreBench bench(Recording());
  bench.Up();
  bench.Generate(Detached(12));
  for (size_t i = 0; i < bench.records.size(); ++i) {
    const auto* request = std::get_if<RequestRecord>(&bench.records[i]);
    if (request == nullptr || request->key == 999) continue;
    RequestRecord twin = *request;
    twin.key = 999;
    bench.records.push_back(twin);
  }
  bench.Restart(bench.records.size());
  EXPECT_EQ(bench.core.n_requests(), 1u);
}

TEST(ControllerAttachTest, EveryBeginningOfTheRecordsIsALedger) {
  CoreBench bench(Recording());
  const uint64_t link = bench.Up();
  auto request = Request(4);
  request.n = 2;
  bench.Generate(request);
  for (int i = 0; i < 6; ++i) bench.Step(link);
  const std::vector<LedgerRecord> all = bench.records;
  for (size_t n = 0; n <= all.size(); ++n) {
    const auto left = Restore(std::span(all).first(n));
    EXPECT_LE(left.size(), 1u);
    for (const RestoredRequest& restored : left) {
      for (const auto& [choice, what] : restored.choices) EXPECT_LE(what.ids.size(), 4u);
    }
  }
}

}  // namespace
}  // namespace trireme
