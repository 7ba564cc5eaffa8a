// What a benchmark sends: lengths, prompts, arrivals, traces.
#include "bench/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace trireme {
namespace {

using testing::Each;
using testing::HasSubstr;

std::vector<int32_t> Words() {
  std::vector<int32_t> words(1000);
  std::iota(words.begin(), words.end(), 5000);
  return words;
}

size_t CommonPrefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

TEST(ParseLengths, OneNumberOrTwo) {
  EXPECT_EQ(ParseLengths("128")->least, 128);
  EXPECT_EQ(ParseLengths("128")->most, 128);
  EXPECT_EQ(ParseLengths("64..256")->least, 64);
  EXPECT_EQ(ParseLengths("64..256")->most, 256);
  for (const char* bad : {"", "x", "0", "0..3", "4..3", "1..", "..3", "1.5", "-1"}) {
    EXPECT_FALSE(ParseLengths(bad).ok()) << bad;
  }
}

TEST(Load, LengthsAreUniformOverTheWholeRange) {
  Load load({.prompt_tokens = {3, 12}, .output_tokens = {1, 5}, .seed = 1}, Words());
  std::vector<int> prompts(13), outputs(6);
  constexpr int kRequests = 10000;
  for (int i = 0; i < kRequests; ++i) {
    const LoadRequest request = load.Next();
    ASSERT_LE(request.ids.size(), 12u);
    ASSERT_LE(request.output_tokens, 5);
    ++prompts[request.ids.size()];
    ++outputs[static_cast<size_t>(request.output_tokens)];
    for (int32_t id : request.ids) ASSERT_TRUE(id >= 5000 && id < 6000);
  }
  // Five standard deviations of a binomial count are below 150 and 200.
  for (size_t n = 3; n <= 12; ++n) EXPECT_NEAR(prompts[n], kRequests / 10, 150) << n;
  for (size_t n = 1; n <= 5; ++n) EXPECT_NEAR(outputs[n], kRequests / 5, 200) << n;
}

TEST(Load, TheSeedDecidesAndNoPromptRepeats) {
  const LoadOptions options{.prompt_tokens = {20, 40}, .output_tokens = {1, 9}, .seed = 7};
  LoadOptions other = options;
  other.seed = 8;
  Load a(options, Words()), b(options, Words()), c(other, Words());
  std::set<std::vector<int32_t>> seen;
  for (int i = 0; i < 50; ++i) {
    const LoadRequest from_a = a.Next(), from_b = b.Next(), from_c = c.Next();
    EXPECT_EQ(from_a.ids, from_b.ids);
    EXPECT_EQ(from_a.seed, from_b.seed);
    EXPECT_EQ(from_a.output_tokens, from_b.output_tokens);
    EXPECT_NE(from_a.ids, from_c.ids);
    EXPECT_TRUE(seen.insert(from_a.ids).second);
    EXPECT_EQ(a.NextInterval(3), b.NextInterval(3));
  }
}

TEST(Load, PromptsShareWhatWasAskedFor) {
  Load load({.prompt_tokens = {100, 200}, .output_tokens = {1, 1}, .shared_prefix = 0.75}, Words());
  const LoadRequest first = load.Next();
  for (int i = 0; i < 20; ++i) {
    const LoadRequest next = load.Next();
    const size_t shorter = std::min(first.ids.size(), next.ids.size());
    // A word in a thousand is equal by chance.
    EXPECT_NEAR(static_cast<double>(CommonPrefix(first.ids, next.ids)),
                0.75 * static_cast<double>(shorter), 2);
  }
}

TEST(Load, ArrivalsAreAPoissonProcess) {
  Load load({.seed = 3}, Words());
  constexpr int kArrivals = 20000;
  constexpr double kRate = 8;
  double sum = 0, squares = 0, beyond_mean = 0;
  for (int i = 0; i < kArrivals; ++i) {
    const double interval = load.NextInterval(kRate);
    ASSERT_GE(interval, 0);
    sum += interval;
    squares += interval * interval;
    beyond_mean += interval > 1 / kRate;
  }
  const double mean = sum / kArrivals;
  EXPECT_NEAR(mean, 1 / kRate, 0.005);
  EXPECT_NEAR(std::sqrt(squares / kArrivals - mean * mean), 1 / kRate, 0.01);  // exponential
  EXPECT_NEAR(beyond_mean / kArrivals, std::exp(-1), 0.02);
}

TEST(Trace, LinesBecomeRequests) {
  auto trace = ParseTrace(
      "{\"timestamp\": 500, \"input_length\": 600, \"output_length\": 4, \"hash_ids\": [1, 2]}\n"
      "\n"
      "{\"timestamp\": 0, \"prompt\": \"It was\", \"output_length\": 3}\r\n");
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ(trace->at(0).at_s, 0);  // by time
  EXPECT_EQ(trace->at(1).at_s, 0.5);
  Load load({.trace = *trace}, Words());
  EXPECT_EQ(load.Next().text, "It was");
  const LoadRequest second = load.Next();
  EXPECT_EQ(second.text, std::nullopt);
  EXPECT_EQ(second.ids.size(), 600u);
  EXPECT_EQ(second.output_tokens, 4);
  EXPECT_EQ(load.Next().text, "It was");  // from its begin again
}

TEST(Trace, EqualBlocksAreEqualTokensUntilItIsRewound) {
  auto trace = ParseTrace(
      "{\"input_length\": 700, \"output_length\": 1, \"hash_ids\": [4, 5]}\n"
      "{\"input_length\": 900, \"output_length\": 1, \"hash_ids\": [4, 6]}\n"
      "{\"input_length\": 700, \"output_length\": 1, \"hash_ids\": [4, 5]}\n");
  ASSERT_TRUE(trace.ok()) << trace.status();
  Load load({.trace = *trace}, Words());
  const LoadRequest a = load.Next(), b = load.Next(), c = load.Next();
  EXPECT_NEAR(static_cast<double>(CommonPrefix(a.ids, b.ids)), kTraceBlockTokens, 2);
  EXPECT_EQ(a.ids, c.ids);
  load.Rewind();
  EXPECT_LT(CommonPrefix(a.ids, load.Next().ids), 3u);
}

TEST(Trace, SaysWhichLineIsWrong) {
  const std::string good = "{\"input_length\": 1, \"output_length\": 1}\n";
  for (const auto& [line, words] : {std::pair("nonsense", "JSON object"),
                                    {"{\"input_length\": 1}", "output_length"},
                                    {"{\"output_length\": 1}", "input_length"},
                                    {"{\"output_length\": 1, \"input_length\": 0.5}", "whole"},
                                    {"{\"output_length\": 1, \"prompt\": 3}", "string"},
                                    {"{\"output_length\": 1, \"input_length\": 1, "
                                     "\"timestamp\": 3}",
                                     "in each line or in none"},
                                    {"{\"output_length\": 1, \"input_length\": 1, "
                                     "\"hash_ids\": [\"a\"]}",
                                     "hash_ids"}}) {
    const absl::Status status = ParseTrace(good + line).status();
    EXPECT_THAT(Message(status), HasSubstr("line 2")) << line;
    EXPECT_THAT(Message(status), HasSubstr(words)) << line;
  }
  EXPECT_FALSE(ParseTrace("\n").ok());
}

}  // namespace
}  // namespace trireme
