// Logit bias and penalties beside the formulas of Hugging Face and OpenAI, on a model's logits.
#include <gtest/gtest.h>

#include <algorithm>

#include "harness.h"

namespace trireme {
namespace {

SequenceRequest Request(uint64_t seed, int32_t max_tokens) {
  SequenceRequest request{.id = seed, .max_tokens = max_tokens};
  for (int32_t i = 0; i < 12; ++i) request.prompt_ids.push_back(30 + i * i % 17);
  request.sampling = {.temperature = 0.8f, .seed = seed};
  return request;
}

Outcome Generate(std::vector<Arrival> arrivals) {
  ReplicaOptions options;
  options.model_dir = BundledModel();
  options.kv_cache_bytes = 4 << 20;
  return RunOnThreads(options, std::move(arrivals));
}

// The logits that each id was drawn from are those of the same ids without penalties, changed.
TEST(PenaltiesTest, FollowTheirFormulas) {
  constexpr int32_t kTokens = 24;
  SequenceRequest penalised = Request(1, kTokens);
  penalised.penalties = {.repetition = 1.7f, .presence = 0.6f, .frequency = -0.35f};
  penalised.logit_bias = {{30, 2}, {41, -3.5f}, {100, 9}};
  const Outcome outcome = Generate({{penalised}});
  const std::vector<int32_t>& ids = outcome.ids.at(1);
  ASSERT_EQ(ids.size(), static_cast<size_t>(kTokens));

  std::vector<Arrival> plain;  // seed 10 + n: after n ids
  for (int32_t n = 0; n < kTokens; ++n) {
    SequenceRequest request = Request(static_cast<uint64_t>(10 + n), n + 1);
    request.emitted_ids.assign(ids.begin(), ids.begin() + n);
    plain.push_back({std::move(request)});
  }
  const Outcome raw = Generate(std::move(plain));

  for (uint32_t n = 0; n < ids.size(); ++n) {
    std::vector<float> expected = raw.logits.at({10 + n, n});
    for (const auto& [id, bias] : penalised.logit_bias) expected[id] += bias;
    // RepetitionPenaltyLogitsProcessor: of each id once
    std::vector<int32_t> all = penalised.prompt_ids;
    all.insert(all.end(), ids.begin(), ids.begin() + n);
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    for (int32_t id : all) {
      expected[id] = expected[id] < 0 ? expected[id] * 1.7f : expected[id] / 1.7f;
    }
    // mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence
    for (size_t j = 0; j < expected.size(); ++j) {
      const auto c = std::count(ids.begin(), ids.begin() + n, static_cast<int32_t>(j));
      expected[j] -= static_cast<float>(c) * -0.35f + (c > 0 ? 0.6f : 0.0f);
    }
    EXPECT_EQ(outcome.logits.at({1, n}), expected) << "id " << n;
  }
}

// A replay from ids that were delivered goes on with the same draws.
TEST(PenaltiesTest, ReplaysDrawTheSameIds) {
  SequenceRequest request = Request(1, 24);
  request.penalties = {.repetition = 1.1f, .frequency = 0.8f};
  const std::vector<int32_t> ids = Generate({{request}}).ids.at(1);
  SequenceRequest plain = Request(1, 24);
  EXPECT_NE(Generate({{plain}}).ids.at(1), ids);
  for (int64_t n : {1, 7, 23}) {
    request.emitted_ids.assign(ids.begin(), ids.begin() + n);
    EXPECT_EQ(Generate({{request}}).ids.at(1), std::vector<int32_t>(ids.begin() + n, ids.end()));
  }
}

}  // namespace
}  // namespace trireme
