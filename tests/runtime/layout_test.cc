// The same bits for the same request, whatever the layout, the batch, the chunks or the cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include "base/file.h"
#include "harness.h"

namespace trireme {
namespace {

struct Case {
  const char* model;
  DType activations;
};

ReplicaOptions Base(const Case& c) {
  ReplicaOptions options;
  options.model_dir = GoldenModel(c.model);
  options.activations = c.activations;
  options.kv_cache_bytes = 4 << 20;
  options.max_rows = 8;
  options.max_batch_tokens = 64;
  options.threads = 1;
  return options;
}

// Nine sequences: greedy, sampled, filtered, with dropout, with shared prefixes.
std::vector<Arrival> Requests() {
  std::mt19937 random(7);
  std::vector<Arrival> arrivals;
  for (uint64_t i = 0; i < 9; ++i) {
    SequenceRequest request{.id = i + 1};
    const int n_prompt = i % 3 == 2 ? 40 : 5 + static_cast<int>(random() % 60);
    for (int t = 0; t < n_prompt; ++t) {
      request.prompt_ids.push_back(i % 3 == 2 ? t % 60 : static_cast<int32_t>(random() % 64));
    }
    request.max_tokens = 6;
    request.sampling = {.temperature = i % 2 == 0 ? 0.0f : 0.9f, .seed = 1000 + i};
    if (i == 3) request.sampling.top_k = 5;
    if (i == 5) request.sampling.top_p = 0.7f;
    if (i == 7) request.sampling.min_p = 0.2f;
    if (i == 4) {
      request.dropout = 0.1f;
      request.dropout_seed = 5;
    }
    arrivals.push_back({std::move(request)});
  }
  return arrivals;
}

void ExpectSameBits(const Outcome& got, const Outcome& expected, const std::string& what) {
  EXPECT_EQ(got.ids, expected.ids) << what;
  ASSERT_EQ(got.logits.size(), expected.logits.size()) << what;
  for (const auto& [key, logits] : expected.logits) {
    const std::vector<float>& mine = got.logits.at(key);
    ASSERT_EQ(std::memcmp(mine.data(), logits.data(), logits.size() * sizeof(float)), 0)
        << what << ": sequence with seed " << key.first << ", token " << key.second;
  }
}

const Outcome& Reference(const Case& c) {
  static std::map<std::pair<std::string, DType>, Outcome> outcomes;
  auto [it, added] = outcomes.try_emplace({c.model, c.activations});
  if (added) it->second = RunOnThreads(Base(c), Requests());
  return it->second;
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.model) + "_" + std::string(Name(info.param.activations));
}

class LayoutTest : public testing::TestWithParam<Case> {};

TEST_P(LayoutTest, TheReferenceGenerates) {
  const Outcome& reference = Reference(GetParam());
  ASSERT_EQ(reference.ids.size(), 9u);
  for (const auto& [id, ids] : reference.ids) EXPECT_EQ(ids.size(), 6u);
  EXPECT_GT(reference.stats.prefix_hits, 0);
}

TEST_P(LayoutTest, SameBitsOnEveryLayout) {
  for (const Layout& layout : std::vector<Layout>{
           {.tp = 2}, {.tp = 3}, {.tp = 4}, {.tp = 2, .pp = 2}, {.pp = 2}, {.tp = 3, .pp = 2}}) {
    for (SequenceParallel sp : {SequenceParallel::kOff, SequenceParallel::kOn}) {
      if (layout.tp == 1 && sp == SequenceParallel::kOn) continue;
      ReplicaOptions options = Base(GetParam());
      options.layout = layout;
      options.layout.sequence_parallel = sp;
      ExpectSameBits(RunOnThreads(options, Requests()), Reference(GetParam()),
                     StrCat("tp ", layout.tp, " pp ", layout.pp, " sp ", static_cast<int>(sp)));
    }
  }
}

TEST_P(LayoutTest, SameBitsForEveryBatchChunkAndCache) {
  ReplicaOptions options = Base(GetParam());
  options.prefix_cache = false;
  ExpectSameBits(RunOnThreads(options, Requests()), Reference(GetParam()), "no prefix cache");
  options = Base(GetParam());
  options.max_batch_tokens = 8;
  ExpectSameBits(RunOnThreads(options, Requests()), Reference(GetParam()), "chunks of at most 8");
  options = Base(GetParam());
  options.max_rows = 1;
  ExpectSameBits(RunOnThreads(options, Requests()), Reference(GetParam()), "one at a time");
  options = Base(GetParam());
  options.threads = 3;
  ExpectSameBits(RunOnThreads(options, Requests()), Reference(GetParam()), "three threads");
  options = Base(GetParam());
  options.avx512 = false;
  ExpectSameBits(RunOnThreads(options, Requests()), Reference(GetParam()), "AVX2");
}

TEST_P(LayoutTest, SameBitsUnderPreemption) {
  ReplicaOptions options = Base(GetParam());
  const auto config =
      ParseModelConfig(*ReadFile(options.model_dir + "/config.json"), "", Architectures());
  ASSERT_TRUE(config.ok()) << config.status();
  const auto split = Split::Make(*config, options.layout, 0);
  // So few blocks that running sequences lose theirs.
  options.kv_cache_bytes = 8 * Engine::KvBlockBytes(*config, *split, options.activations);
  const Outcome few = RunOnThreads(options, Requests());
  EXPECT_GT(few.stats.preemptions, 0);
  ExpectSameBits(few, Reference(GetParam()), "preempted");
}

// Layouts, batches and arrivals drawn at random.
TEST_P(LayoutTest, SameBitsForRandomSchedules) {
  const int n = std::getenv("TRIREME_SOAK") != nullptr ? 60 : 6;
  std::mt19937 random(11);
  auto draw = [&](int from, int to) {
    return from + static_cast<int>(random() % static_cast<unsigned>(to - from + 1));
  };
  for (int i = 0; i < n; ++i) {
    ReplicaOptions options = Base(GetParam());
    options.layout = {.tp = draw(1, 4),
                      .pp = draw(1, 2),
                      .sequence_parallel = static_cast<SequenceParallel>(draw(0, 2))};
    options.max_rows = draw(1, 9);
    options.max_batch_tokens = options.max_rows + draw(0, 50);
    options.prefix_cache = draw(0, 1) == 1;
    std::vector<Arrival> arrivals = Requests();
    std::shuffle(arrivals.begin(), arrivals.end(), random);
    int step = 0;
    for (Arrival& arrival : arrivals) arrival.before_step = step += draw(0, 3);
    ExpectSameBits(RunOnThreads(options, arrivals), Reference(GetParam()),
                   StrCat("draw ", i, ": tp ", options.layout.tp, " pp ", options.layout.pp, " sp ",
                          static_cast<int>(options.layout.sequence_parallel), " rows ",
                          options.max_rows, " tokens ", options.max_batch_tokens));
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LayoutTest,
                         testing::Values(Case{"gqa_f32", DType::kF32},
                                         Case{"gqa_8_2_eps", DType::kBF16},
                                         Case{"heads_12_3", DType::kF32},
                                         Case{"biases", DType::kBF16}),
                         CaseName);

// Eight ranks on eight heads, and more ranks than R chunks: the ids agree, the bits need not.
TEST(LayoutLimits, EveryHeadItsOwnRank) {
  const Case c{"gqa_8_2_eps", DType::kF32};
  ReplicaOptions options = Base(c);
  options.layout.tp = 8;
  ExpectSameBits(RunOnThreads(options, Requests()), Reference(c), "tp 8");
}

TEST(LayoutLimits, MoreRanksThanChunks) {
  const Case c{"heads_12_3", DType::kF32};
  ReplicaOptions options = Base(c);
  options.layout.tp = 11;  // R is 8
  const Outcome outcome = RunOnThreads(options, Requests());
  for (const auto& [key, logits] : Reference(c).logits) {
    const std::vector<float>& mine = outcome.logits.at(key);
    for (size_t v = 0; v < logits.size(); ++v) {
      if (std::isinf(logits[v]) || std::isinf(mine[v])) continue;  // masked by a filter
      ASSERT_NEAR(mine[v], logits[v], 1e-4) << key.first << "/" << key.second;
    }
  }
}

}  // namespace
}  // namespace trireme
