// The figures of a benchmark, from times that are known.
#include "bench/serve_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace trireme {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::FloatNear;

const Timeline::Time kBegin = Timeline::Time{} + std::chrono::hours(1);

// Due at `due_ms`, then a message of one token at each of `tokens_ms`, and the end with the last.
Timeline Request(int due_ms, const std::vector<int>& tokens_ms) {
  Timeline timeline{.due = kBegin + milliseconds(due_ms), .prompt_tokens = 10};
  for (int ms : tokens_ms) timeline.Tokens(kBegin + milliseconds(ms), 1);
  timeline.ended = kBegin + milliseconds(tokens_ms.back());
  return timeline;
}

Timeline Failed(const std::string& kind, const std::string& error) {
  return {.due = kBegin, .ended = kBegin + milliseconds(50), .error_kind = kind, .error = error};
}

TEST(Describe, PercentilesAreSamples) {
  std::vector<float> samples(100);
  std::iota(samples.begin(), samples.end(), 1.0f);
  std::ranges::reverse(samples);
  const Distribution d = Describe(samples);
  EXPECT_EQ(d.n, 100u);
  EXPECT_EQ(d.mean, 50.5);
  EXPECT_EQ(d.p50, 50);
  EXPECT_EQ(d.p90, 90);
  EXPECT_EQ(d.p99, 99);
}

TEST(Describe, FewSamples) {
  EXPECT_EQ(Describe({}).p99, 0);
  EXPECT_EQ(Describe({}).n, 0u);
  const Distribution one = Describe({7});
  EXPECT_EQ(one.p50, 7);
  EXPECT_EQ(one.p99, 7);
  const Distribution ten = Describe({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  EXPECT_EQ(ten.p50, 5);
  EXPECT_EQ(ten.p90, 9);  // nine of ten do not exceed it
  EXPECT_EQ(ten.p99, 10);
}

TEST(Timeline, TokensOfOneMessageShareItsGap) {
  Timeline timeline{.due = kBegin};
  timeline.Tokens(kBegin + milliseconds(100), 2);  // their gap is not known
  timeline.Tokens(kBegin + milliseconds(150), 1);
  timeline.Tokens(kBegin + milliseconds(150), 0);
  timeline.Tokens(kBegin + milliseconds(210), 3);
  timeline.ended = kBegin + milliseconds(250);
  EXPECT_EQ(timeline.output_tokens, 6);
  EXPECT_THAT(timeline.gaps_s, ElementsAre(FloatNear(0.05, 1e-6), FloatNear(0.02, 1e-6),
                                           FloatNear(0.02, 1e-6), FloatNear(0.02, 1e-6)));
  EXPECT_DOUBLE_EQ(timeline.TtftSeconds(), 0.1);
  EXPECT_DOUBLE_EQ(timeline.EndToEndSeconds(), 0.25);
  EXPECT_DOUBLE_EQ(*timeline.MeanTbtSeconds(), 0.11 / 5);
  EXPECT_EQ(Request(0, {5}).MeanTbtSeconds(), std::nullopt);
}

TEST(Summarize, TheFiguresOfARun) {
  const std::vector<Timeline> requests = {
      Request(0, {100, 120, 140}), Request(1000, {1300, 1340}), Failed("UNAVAILABLE", "first"),
      Failed("UNAVAILABLE", "second"), Failed("HTTP 429", "slow")};
  const ServeSummary run = Summarize(requests, kBegin, {});
  EXPECT_EQ(run.n_ok, 2u);
  EXPECT_EQ(run.n_failed, 3u);
  EXPECT_DOUBLE_EQ(run.seconds, 1.34);
  EXPECT_DOUBLE_EQ(run.qps, 2 / 1.34);
  EXPECT_DOUBLE_EQ(run.output_tokens_per_s, 5 / 1.34);
  EXPECT_EQ(run.goodput_qps, std::nullopt);
  EXPECT_EQ(run.prompt_tokens, 20);
  EXPECT_EQ(run.output_tokens, 5);
  EXPECT_NEAR(run.ttft_s.p50, 0.1, 1e-6);
  EXPECT_NEAR(run.ttft_s.p99, 0.3, 1e-6);
  EXPECT_EQ(run.tbt_s.n, 3u);
  EXPECT_NEAR(run.tbt_s.p50, 0.02, 1e-6);
  EXPECT_NEAR(run.tbt_s.p99, 0.04, 1e-6);
  EXPECT_NEAR(run.e2e_s.p50, 0.14, 1e-6);
  EXPECT_NEAR(run.e2e_s.p99, 0.34, 1e-6);
  ASSERT_EQ(run.errors.size(), 2u);
  EXPECT_EQ(run.errors.at("UNAVAILABLE").n, 2u);
  EXPECT_EQ(run.errors.at("UNAVAILABLE").example, "first");
  EXPECT_EQ(run.errors.at("HTTP 429").n, 1u);
}

// A server that stands still for a second answers each request in 10 ms of its being sent; a
// client that waits for it sends nine requests late. Their wait counts.
TEST(Summarize, ALateSendDoesNotHideASlowServer) {
  std::vector<Timeline> requests;
  for (int i = 0; i < 10; ++i) requests.push_back(Request(100 * i, {1000 + 10 * (i + 1)}));
  const ServeSummary run = Summarize(requests, kBegin, {});
  EXPECT_NEAR(run.ttft_s.p99, 1.01, 1e-6);
  EXPECT_NEAR(run.ttft_s.p50, 0.56, 1e-6);
}

TEST(Summarize, GoodputCountsWhatKeepsEveryLimit) {
  const std::vector<Timeline> requests = {Request(0, {100, 120, 140}),   // mean TBT 20 ms
                                          Request(0, {300, 310, 320}),   // TTFT too long
                                          Request(0, {100, 200, 300}),   // TBT too long
                                          Request(0, {100, 105, 1000}),  // a mean TBT of 450 ms
                                          Failed("UNAVAILABLE", "")};
  const auto good = [&](const GoodputLimits& limits) {
    const ServeSummary run = Summarize(requests, kBegin, limits);
    return *run.goodput_qps * run.seconds;
  };
  EXPECT_DOUBLE_EQ(good({.ttft_s = 0.2}), 3);
  EXPECT_DOUBLE_EQ(good({.tbt_s = 0.05}), 2);
  EXPECT_DOUBLE_EQ(good({.e2e_s = 0.5}), 3);
  EXPECT_DOUBLE_EQ(good({.ttft_s = 0.2, .tbt_s = 0.05}), 1);
}

TEST(Summarize, NothingRan) {
  const ServeSummary run = Summarize({}, kBegin, {.ttft_s = 1});
  EXPECT_EQ(run.n_ok, 0u);
  EXPECT_EQ(run.qps, 0);
}

}  // namespace
}  // namespace trireme
