#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "kernels/cpu/cpu_ops.h"

namespace trireme {
namespace {

constexpr int64_t kVocab = 1003;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

ModelConfig Config() {
  ModelConfig config;
  config.hidden = 16;
  config.n_layers = 1;
  config.n_heads = 8;
  config.n_kv_heads = 8;
  config.head_dim = 2;
  config.ffn = 16;
  config.vocab = kVocab;
  return config;
}

// Samples on tp ranks as threads, each holding its vocabulary; all ranks must agree.
std::vector<int32_t> SampleOn(int tp, const std::vector<std::vector<float>>& logits,
                              const std::vector<SampleRow>& rows,
                              const std::vector<LogitEdit>& edits = {}) {
  std::vector<std::unique_ptr<World>> worlds;
  if (tp == 1) {
    worlds.push_back(MakeSingleWorld());
  } else {
    worlds = MakeThreadWorlds(tp);
  }
  std::vector<std::vector<int32_t>> ids(tp);
  auto run = [&](int r) {
    auto ops = MakeCpuOps({});
    ASSERT_TRUE(ops.ok());
    const auto split = Split::Make(Config(), Layout{.tp = tp}, r);
    worlds[r]->Reserve(
        {.max_parts_bytes = 1024, .max_tensor_bytes = Sampler::GatherBytes(*split, 16)});
    Mesh mesh(*worlds[r], **ops, **ops, *split);
    Sampler sampler(mesh, 16);
    const Range vocab = split->vocab();
    std::vector<float> here;
    for (const auto& row : logits) {
      here.insert(here.end(), row.begin() + vocab.begin, row.begin() + vocab.end);
    }
    const Sampler::Samples drawn = sampler.Sample(
        Tensor(here.data(), DType::kF32, {static_cast<int64_t>(logits.size()), vocab.size()}), rows,
        edits);
    ids[r].assign(drawn.ids.i32(), drawn.ids.i32() + drawn.ids.size());
  };
  std::vector<std::thread> threads;
  for (int r = 1; r < tp; ++r) threads.emplace_back(run, r);
  run(0);
  for (auto& thread : threads) thread.join();
  for (int r = 1; r < tp; ++r) EXPECT_EQ(ids[r], ids[0]) << "rank " << r << " of " << tp;
  return ids[0];
}

// What the filters keep, by their definition in float64; empty where float32 may round otherwise.
std::vector<int32_t> Kept(const std::vector<float>& logits, const SamplingParams& params) {
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const double max = logits[ids[0]];
  auto p = [&](int32_t id) { return std::exp((logits[id] - max) / double{params.temperature}); };
  if (params.min_p > 0) {
    size_t n = 0;
    while (n < ids.size() && p(ids[n]) >= params.min_p) ++n;
    if (n < ids.size() && std::fabs(p(ids[n]) - params.min_p) < 1e-5) return {};
    if (std::fabs(p(ids[n - 1]) - params.min_p) < 1e-5) return {};
    ids.resize(n);
  }
  if (params.top_k > 0) ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(params.top_k)));
  if (params.top_p < 1) {
    double mass = 0, sum = 0;
    for (int32_t id : ids) mass += p(id);
    size_t n = 0;
    while (n < ids.size() && (n == 0 || sum < params.top_p * mass)) {
      sum += p(ids[n++]);
      if (std::fabs(sum / mass - params.top_p) < 1e-4) return {};
    }
    ids.resize(n);
  }
  return ids;
}

int32_t DrawAmong(const std::vector<float>& logits, const std::vector<int32_t>& kept,
                  const SampleRow& row) {
  std::vector<float> masked(logits.size(), -kInfinity);
  for (int32_t id : kept) masked[id] = logits[id];
  auto ops = MakeCpuOps({});
  Scored best;
  const Draw draw{1 / row.params.temperature, row.params.seed, row.choice, row.token_index};
  (*ops)->DrawBest(ScoredTensor(&best, 1), Tensor(masked.data(), DType::kF32, {1, kVocab}),
                   {&draw, 1}, Tensor(), 0);
  return best.id;
}

TEST(SamplerTest, FiltersKeepWhatTheirDefinitionKeeps) {
  std::mt19937 random(3);
  auto uniform = [&] { return static_cast<float>(random() % 1000) / 1000; };
  int compared = 0;
  for (int round = 0; round < 25; ++round) {
    std::vector<std::vector<float>> logits(8);
    std::vector<SampleRow> rows(8);
    for (size_t i = 0; i < rows.size(); ++i) {
      const float spread = round % 3 == 0 ? 0.2f : 4.0f;  // flat rows need many candidates
      for (int64_t v = 0; v < kVocab; ++v) {
        float logit = spread * (uniform() + uniform() + uniform());
        if (round % 5 == 0) logit = std::round(logit);  // ties
        logits[i].push_back(logit);
      }
      SamplingParams& params = rows[i].params;
      params.temperature = 0.3f + uniform();
      params.seed = random();
      if (random() % 2 == 0)
        params.top_k = 1 + static_cast<int32_t>(random() % (i == 7 ? 1200 : 100));
      if (random() % 2 == 0) params.top_p = 0.05f + 0.94f * uniform();
      if (random() % 3 == 0) params.min_p = 0.5f * uniform();
      rows[i].token_index = static_cast<uint32_t>(round);
    }
    const std::vector<int32_t> one = SampleOn(1, logits, rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::vector<int32_t> kept = Kept(logits[i], rows[i].params);
      if (kept.empty()) continue;
      ++compared;
      EXPECT_EQ(one[i], DrawAmong(logits[i], kept, rows[i]))
          << "top_k " << rows[i].params.top_k << " top_p " << rows[i].params.top_p << " min_p "
          << rows[i].params.min_p;
    }
    for (int tp : {2, 3, 8}) EXPECT_EQ(SampleOn(tp, logits, rows), one) << "tp " << tp;
  }
  EXPECT_GT(compared, 100);
}

TEST(SamplerTest, GreedyTakesTheSmallestOfEqualIds) {
  std::vector<float> logits(kVocab, 0);
  logits[900] = logits[17] = 5;
  const SampleRow row{.params = {.temperature = 0, .top_k = 3, .top_p = 0.1f}};
  for (int tp : {1, 4}) EXPECT_EQ(SampleOn(tp, {logits}, {row}), std::vector<int32_t>{17});
}

TEST(SamplerTest, EditsComeBeforeFiltersAndDraws) {
  std::vector<float> logits(kVocab, 0);
  logits[500] = 50;
  logits[3] = 20;
  const SampleRow greedy{.params = {.temperature = 0}}, best{.params = {.top_k = 1}};
  const std::vector<LogitEdit> edits = {{.row = 0, .id = 500, .bias = -kInfinity},
                                        {.row = 1, .id = 3, .bias = 31},
                                        {.row = 2, .id = 500, .penalty = 31}};
  for (int tp : {1, 2, 3}) {
    EXPECT_EQ(SampleOn(tp, std::vector(4, logits), {greedy, best, best, best}, edits),
              (std::vector<int32_t>{3, 3, 3, 500}));
  }
}

TEST(SamplerTest, DrawsFollowTheDistribution) {
  std::vector<float> logits(kVocab, -kInfinity);
  logits[2] = std::log(0.6f);
  logits[700] = std::log(0.3f);
  logits[999] = std::log(0.1f);
  int count[3] = {};
  for (uint32_t index = 0; index < 2000; index += 8) {
    std::vector<SampleRow> rows;
    for (uint32_t i = 0; i < 8; ++i) {
      rows.push_back(
          {.params = {.temperature = 1, .top_p = 0.95f, .seed = 4}, .token_index = index + i});
    }
    for (int32_t id : SampleOn(1, std::vector(8, logits), rows)) {
      ++count[id == 2 ? 0 : id == 700 ? 1 : 2];
      EXPECT_TRUE(id == 2 || id == 700 || id == 999) << id;
    }
  }
  EXPECT_NEAR(count[0], 1200, 80);  // four standard deviations
  EXPECT_NEAR(count[1], 600, 80);
}

}  // namespace
}  // namespace trireme
