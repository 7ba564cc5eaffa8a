// Logprobs beside log-softmax in float64 of the logits that a model gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "harness.h"

namespace trireme {
namespace {

SequenceRequest Request(uint64_t seed, int32_t max_tokens) {
  SequenceRequest request{.id = seed, .max_tokens = max_tokens};
  for (int32_t i = 0; i < 12; ++i) request.prompt_ids.push_back(30 + i * i % 17);
  request.sampling = {.temperature = 0.8f, .top_k = 40, .seed = seed};
  return request;
}

Outcome Generate(std::vector<Arrival> arrivals) {
  ReplicaOptions options;
  options.model_dir = BundledModel();
  options.kv_cache_bytes = 4 << 20;
  return RunOnThreads(options, std::move(arrivals));
}

void ExpectLogprobs(const TokenLogprobs& found, const std::vector<float>& logits, int32_t id,
                    size_t n_top) {
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  double sum = 0;
  for (float logit : logits) sum += std::exp(double{logit});
  const auto exact = [&](int32_t of) { return double{logits[of]} - std::log(sum); };
  EXPECT_NEAR(found.logprob, exact(id), 2e-6);
  ASSERT_EQ(found.top.size(), n_top);
  for (size_t i = 0; i < n_top; ++i) {
    EXPECT_EQ(found.top[i].id, order[i]);
    EXPECT_NEAR(found.top[i].logprob, exact(order[i]), 2e-6);
  }
}

// Penalties, temperature and filters decide what is drawn; the logprobs are the model's.
TEST(LogprobsTest, AreOfTheLogitsBeforePenalties) {
  SequenceRequest penalised = Request(1, 10);
  penalised.penalties = {.repetition = 2, .presence = 2, .frequency = 2};
  penalised.logit_bias = {{30, 5}, {41, -50}};
  penalised.logprobs = 5;
  const Outcome outcome = Generate({{penalised}});
  const std::vector<int32_t>& ids = outcome.ids.at(1);
  const std::vector<TokenLogprobs>& logprobs = outcome.logprobs.at(1);
  ASSERT_EQ(logprobs.size(), ids.size());
  std::vector<Arrival> plain;  // seed 10 + n: after n ids
  for (int32_t n = 0; n < 10; ++n) {
    SequenceRequest request = Request(static_cast<uint64_t>(10 + n), n + 1);
    request.emitted_ids.assign(ids.begin(), ids.begin() + n);
    plain.push_back({std::move(request)});
  }
  const Outcome raw = Generate(std::move(plain));
  for (uint32_t n = 0; n < ids.size(); ++n) {
    SCOPED_TRACE(n);
    ExpectLogprobs(logprobs[n], raw.logits.at({10 + n, n}), ids[n], 5);
  }
}

// The prompt's are those that its ids would have been generated with.
TEST(LogprobsTest, OfAPromptAreThoseOfItsIdsGenerated) {
  SequenceRequest request = Request(1, 1);
  request.prompt_logprobs = 20;
  const Outcome outcome = Generate({{request}});
  const std::vector<TokenLogprobs>& logprobs = outcome.prompt_logprobs.at(1);
  ASSERT_EQ(logprobs.size(), request.prompt_ids.size() - 1);
  std::vector<Arrival> shorter;  // seed 10 + n: of the first n ids
  for (size_t n = 1; n < request.prompt_ids.size(); ++n) {
    SequenceRequest beginning = Request(10 + n, 1);
    beginning.prompt_ids.resize(n);
    shorter.push_back({std::move(beginning)});
  }
  const Outcome raw = Generate(std::move(shorter));
  for (size_t n = 1; n < request.prompt_ids.size(); ++n) {
    SCOPED_TRACE(n);
    ExpectLogprobs(logprobs[n - 1], raw.logits.at({10 + n, 0}), request.prompt_ids[n], 20);
  }
}

// They go on as they would have where a request goes on after its replica was lost.
TEST(LogprobsTest, ReplaysGoOnWithTheSame) {
  SequenceRequest request = Request(1, 12);
  request.logprobs = 2;
  const std::vector<int32_t> ids = Generate({{request}}).ids.at(1);
  const std::vector<TokenLogprobs> logprobs = Generate({{request}}).logprobs.at(1);
  request.emitted_ids.assign(ids.begin(), ids.begin() + 5);
  EXPECT_EQ(Generate({{request}}).logprobs.at(1),
            std::vector<TokenLogprobs>(logprobs.begin() + 5, logprobs.end()));
}

}  // namespace
}  // namespace trireme
