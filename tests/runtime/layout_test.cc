// The same bits for the same request, whatever the layout, the batch, the chunks or the cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "layouts.h"

namespace trireme {

void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " " << Name(c.activations); }

static std::string ModelDirectory(const Case& c) {
  return std::string(c.model) == "austen" ? BundledModel() : GoldenModel(c.model);
}

static ModelConfig Config(const Case& c) {
  return *ReadModelConfig(ModelDirectory(c), Architectures());
}

ReplicaOptions Base(const Case& c) {
  ReplicaOptions options;
  options.model_dir = ModelDirectory(c);
  options.activations = c.activations;
  options.kv_cache_bytes = 4 << 20;
  options.max_rows = 8;
  options.max_batch_tokens = 64;
  options.threads = 1;
  options.exact = true;
  return options;
}

// Nine sequences: greedy, sampled, filtered, penalised, with dropout, with shared prefixes.
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
    if (i < 4) request.logprobs = static_cast<int32_t>(2 * i);
    if (i == 8) request.prompt_logprobs = 3;
    if (i == 1 || i == 6) request.penalties = {.repetition = 1.3f, .frequency = 0.4f};
    if (i == 6 || i == 7) request.logit_bias = {{5, 2.5f}, {60, -100}};
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
  EXPECT_TRUE(got.logprobs == expected.logprobs) << what;
  EXPECT_TRUE(got.prompt_logprobs == expected.prompt_logprobs) << what;
  ASSERT_EQ(got.logits.size(), expected.logits.size()) << what;
  for (const auto& [key, logits] : expected.logits) {
    const std::vector<float>& mine = got.logits.at(key);
    ASSERT_EQ(std::memcmp(mine.data(), logits.data(), logits.size() * sizeof(float)), 0)
        << what << ": sequence with seed " << key.first << ", token " << key.second;
  }
}

// Of the rank that needs most: it decides how many blocks all have.
static int64_t KvBlockBytes(const Case& c, const Layout& layout) {
  const ModelConfig config = Config(c);
  int64_t most = 0;
  for (int r = 0; r < layout.n_ranks(); ++r) {
    const Split split = *Split::Make(config, layout, r);
    most = std::max(most, Engine::KvBlockBytes(config, split, c.activations));
  }
  return most;
}

const Outcome& Reference(const Case& c) {
  static std::map<std::pair<std::string, DType>, Outcome> outcomes;
  auto [it, added] = outcomes.try_emplace({c.model, c.activations});
  if (added) it->second = RunOnThreads(Base(c), Requests());
  return it->second;
}

static std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.model) + "_" + std::string(Name(info.param.activations));
}

namespace {

bool Soak() { return std::getenv("TRIREME_SOAK") != nullptr; }

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
      // The emulated device takes its time: without pp one kind, with pp the other.
      if (HasCuda() && !Soak() && (layout.pp > 1) == (sp == SequenceParallel::kOff)) continue;
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
}

// By the switch of the flag `auto`: the prompts' steps have 64 tokens a rank, the later ones not.
TEST_P(LayoutTest, SameBitsWhereSomeStepsAreSequenceParallel) {
  ReplicaOptions options = Base(GetParam());
  options.layout.tp = 2;
  options.max_rows = 9;
  options.max_batch_tokens = 256;
  const Outcome mixed = RunOnThreads(options, Requests());
  EXPECT_GT(mixed.sequence_parallel_steps, 0);
  EXPECT_LT(mixed.sequence_parallel_steps, mixed.steps);
  ExpectSameBits(mixed, Reference(GetParam()), "auto");
}

// One sequence after the other, of one prompt, so that they would find each other's keys and values
// in the prefix cache.
TEST_P(LayoutTest, DropoutAndItsSeedChangeTheLogits) {
  struct Kind {
    float dropout;
    uint64_t seed;
  };
  std::vector<Arrival> arrivals;
  for (const Kind& kind : {Kind{0, 5}, Kind{0.1f, 5}, Kind{0.2f, 5}, Kind{0.1f, 6}}) {
    const uint64_t id = arrivals.size() + 1;
    SequenceRequest request{.id = id, .sampling = {.temperature = 0, .seed = id}, .max_tokens = 1};
    for (int t = 0; t < 40; ++t) request.prompt_ids.push_back(t);
    request.dropout = kind.dropout;
    request.dropout_seed = kind.seed;
    arrivals.push_back({std::move(request)});
  }
  ReplicaOptions options = Base(GetParam());
  options.max_rows = 1;
  const Outcome cached = RunOnThreads(options, arrivals);
  for (uint64_t a = 1; a <= arrivals.size(); ++a) {
    for (uint64_t b = 1; b < a; ++b) {
      EXPECT_NE(cached.logits.at({a, 0}), cached.logits.at({b, 0})) << a << " and " << b;
    }
  }
  options.prefix_cache = false;
  ExpectSameBits(RunOnThreads(options, arrivals), cached, "without the prefix cache");
}

TEST_P(LayoutTest, SameBitsUnderPreemption) {
  ReplicaOptions options = Base(GetParam());
  // So few blocks that running sequences lose theirs.
  options.kv_cache_bytes = 8 * KvBlockBytes(GetParam(), options.layout);
  const Outcome few = RunOnThreads(options, Requests(), {.ahead = false});
  EXPECT_GT(few.stats.preemptions, 0);
  ExpectSameBits(few, Reference(GetParam()), "preempted");
  options.kv_cache_bytes = 6 * KvBlockBytes(GetParam(), options.layout);
  const Outcome ahead = RunOnThreads(options, Requests(), {.ahead = true});
  EXPECT_GT(ahead.stats.preemptions, 0);
  ExpectSameBits(ahead, Reference(GetParam()), "preempted, planning ahead");
}

TEST_P(LayoutTest, SameBitsWhenPlanningAhead) {
  ReplicaOptions options = Base(GetParam());
  options.layout.tp = 2;
  ExpectSameBits(RunOnThreads(options, Requests(), {.ahead = true}), Reference(GetParam()),
                 "planning ahead");
}

class Draws {
 public:
  explicit Draws(uint32_t seed) : random_(seed) {}
  int operator()(int from, int to) {
    return from + static_cast<int>(random_() % static_cast<unsigned>(to - from + 1));
  }
  bool OneIn(int n) { return (*this)(1, n) == 1; }
  std::mt19937& random() { return random_; }

 private:
  std::mt19937 random_;
};

// Up to nine sequences; most begin with a part of one text. At most 7 blocks of KV each.
std::vector<Arrival> DrawRequests(Draws& draw, int n_vocab) {
  std::vector<int32_t> text(64);
  for (int32_t& id : text) id = draw(0, n_vocab - 1);
  std::vector<Arrival> arrivals;
  int step = 0;
  for (int n = draw(1, 9); n > 0; --n) {
    const uint64_t id = arrivals.size() + 1;
    SequenceRequest request{.id = id};
    if (!draw.OneIn(3)) request.prompt_ids.assign(text.begin(), text.begin() + draw(0, 64));
    for (int t = draw(1, 28); t > 0; --t) request.prompt_ids.push_back(draw(0, n_vocab - 1));
    request.max_tokens = draw(1, 20);
    request.sampling = {.temperature = draw.OneIn(2) ? 0.0f : 0.9f, .seed = 100 + id};
    if (draw.OneIn(4)) request.sampling.top_k = draw(1, 9);
    if (draw.OneIn(4)) request.sampling.top_p = 0.7f;
    if (draw.OneIn(4)) request.sampling.min_p = 0.2f;
    if (draw.OneIn(4)) request.logprobs = draw(0, 20);
    if (draw.OneIn(4)) request.prompt_logprobs = draw(0, 3);
    if (draw.OneIn(4)) request.penalties = {.repetition = 1.2f, .presence = 0.5f};
    if (draw.OneIn(4)) request.logit_bias = {{draw(0, n_vocab - 1), 3}};
    if (draw.OneIn(4)) {
      request.dropout = 0.1f;
      request.dropout_seed = static_cast<uint64_t>(draw(1, 2));
    }
    arrivals.push_back({std::move(request), step += draw(0, 3)});
  }
  return arrivals;
}

// Layouts, batches, prompts and arrivals drawn at random, beside one rank that takes one sequence
// after the other in small chunks, from their beginnings, on AVX2.
TEST_P(LayoutTest, SameBitsForWhateverIsDrawn) {
  // The totals below are of 8.
  const int n = HasCuda() ? (Soak() ? 8 : 1) : (Soak() ? 100 : 8);
  const ModelConfig config = Config(GetParam());
  const int n_chunks = Split::Make(config, {}, 0)->n_chunks();
  Draws draw(1);
  int64_t preemptions = 0, cached_tokens = 0, mixed_runs = 0;
  for (int i = 0; i < n; ++i) {
    std::vector<Arrival> arrivals = DrawRequests(draw, static_cast<int>(config.vocab));
    ReplicaOptions plain = Base(GetParam());
    plain.max_rows = 1;
    plain.max_batch_tokens = 16;
    plain.prefix_cache = false;
    plain.avx512 = false;
    const Outcome expected = RunOnThreads(plain, arrivals);

    ReplicaOptions options = Base(GetParam());
    options.layout = {.tp = draw(1, n_chunks),
                      .pp = draw(1, static_cast<int>(config.n_layers)),
                      .sequence_parallel = static_cast<SequenceParallel>(draw(0, 2))};
    options.max_rows = draw(1, 9);
    options.max_batch_tokens = options.max_rows + draw(0, 90);
    options.kv_cache_bytes =
        (draw.OneIn(2) ? draw(7, 12) : draw(20, 70)) * KvBlockBytes(GetParam(), options.layout);
    options.threads = draw(1, 3);
    options.prefix_cache = draw.OneIn(2);
    options.avx512 = draw.OneIn(2);
    Scheduling scheduling;
    if (options.layout.sequence_parallel == SequenceParallel::kAuto) {
      scheduling.sequence_parallel_tokens = draw(2, 30);
    }
    scheduling.ahead = options.layout.pp == 1 && i % 2 == 0;
    std::shuffle(arrivals.begin(), arrivals.end(), draw.random());
    const std::string what = StrCat(
        "draw ", i, ": tp ", options.layout.tp, " pp ", options.layout.pp, " sp ",
        static_cast<int>(options.layout.sequence_parallel), " rows ", options.max_rows, " tokens ",
        options.max_batch_tokens, " threads ", options.threads, " ahead ", *scheduling.ahead);
    const Outcome got = RunOnThreads(options, arrivals, scheduling);
    ExpectSameBits(got, expected, what);
    if (HasFatalFailure()) return;
    preemptions += got.stats.preemptions;
    cached_tokens += got.stats.prefix_hits;
    mixed_runs += 0 < got.sequence_parallel_steps && got.sequence_parallel_steps < got.steps;
  }
  if (n < 8) return;
  EXPECT_GT(preemptions, 0);
  EXPECT_GT(cached_tokens, 0);
  EXPECT_GT(mixed_runs, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, LayoutTest, testing::ValuesIn(LayoutCases()), CaseName);

}  // namespace
}  // namespace trireme
