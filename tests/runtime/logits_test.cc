// Logits beside Hugging Face transformers in float32 (tests/golden/make_logits.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "harness.h"
#include "nlohmann/json.hpp"
#include "runtime/safetensors.h"

namespace trireme {
namespace {

struct Golden {
  std::vector<int32_t> ids;
  std::vector<float> logits;  // of the last rows
  int64_t n_rows = 0;
};

// Two tensors of a golden file; empty if absent.
Golden ReadGolden(const std::string& path, const std::string& ids, const std::string& logits) {
  const std::string file = *ReadFile(path);
  auto header = ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size());
  EXPECT_TRUE(header.ok()) << header.status();
  Golden golden;
  for (const auto& tensor : header->tensors) {
    const char* data = file.data() + tensor.begin;
    if (tensor.name == ids) {
      golden.ids.resize((tensor.end - tensor.begin) / sizeof(int32_t));
      std::memcpy(golden.ids.data(), data, tensor.end - tensor.begin);
    }
    if (tensor.name == logits) {
      golden.n_rows = tensor.shape[0];
      golden.logits.resize((tensor.end - tensor.begin) / sizeof(float));
      std::memcpy(golden.logits.data(), data, tensor.end - tensor.begin);
    }
  }
  return golden;
}

// All rows' logits of one sequence, prefilled in chunks.
std::vector<float> Logits(ReplicaRank& rank, const std::vector<int32_t>& ids, size_t chunk) {
  std::vector<float> logits;
  for (size_t begin = 0; begin < ids.size(); begin += chunk) {
    const size_t end = std::min(ids.size(), begin + chunk);
    StepPlan plan{.id = static_cast<int64_t>(begin)};
    for (size_t i = begin; i < end; ++i) {
      plan.tokens.push_back(ids[i]);
      plan.positions.push_back(static_cast<int32_t>(i));
      plan.slots.push_back(static_cast<int32_t>(i));
      plan.samples.push_back(
          {.row = static_cast<int32_t>(i - begin), .params = {.temperature = 0}});
    }
    plan.q_starts = {0, static_cast<int32_t>(end - begin)};
    plan.kv_lens = {static_cast<int32_t>(end)};
    plan.max_blocks = static_cast<int32_t>((end + kKvBlockSize - 1) / kKvBlockSize);
    for (int32_t b = 0; b < plan.max_blocks; ++b) plan.block_table.push_back(b);
    rank.engine().Run(plan);
    const Tensor step = rank.engine().logits();
    logits.insert(logits.end(), step.f32(), step.f32() + step.size());
  }
  return logits;
}

// The golden rows are the sequence's last ones; within 1e-4 of the largest.
void ExpectLogits(ReplicaRank& rank, const Golden& golden) {
  ASSERT_FALSE(golden.ids.empty());
  ASSERT_GT(golden.n_rows, 0);
  for (size_t chunk : {size_t{256}, size_t{7}}) {
    const std::vector<float> all = Logits(rank, golden.ids, chunk);
    ASSERT_GE(all.size(), golden.logits.size());
    const float* mine = all.data() + all.size() - golden.logits.size();
    double largest = 0, worst = 0;
    for (size_t i = 0; i < golden.logits.size(); ++i) {
      ASSERT_FALSE(std::isnan(mine[i]));
      largest = std::max(largest, std::fabs(double{golden.logits[i]}));
      worst = std::max(worst, std::fabs(double{golden.logits[i]} - double{mine[i]}));
    }
    EXPECT_LE(worst / largest, 1e-4) << golden.ids.size() << " tokens in chunks of " << chunk;
  }
}

class LogitsTest : public testing::TestWithParam<std::string> {};

TEST_P(LogitsTest, MatchTransformers) {
  const std::string folder = GoldenModel(GetParam());
  const std::string model = GetParam() == "austen" ? BundledModel() : folder;
  ReplicaOptions options;
  options.model_dir = model;
  options.kv_cache_bytes = 64 << 20;
  options.max_rows = 256;
  options.max_batch_tokens = 256;
  options.threads = 1;
  auto world = MakeSingleWorld();
  auto rank = ReplicaRank::Load(options, *world);
  ASSERT_TRUE(rank.ok()) << rank.status();
  const std::string file = folder + "/logits.safetensors";
  ExpectLogits(**rank, ReadGolden(file, "ids_0", "logits_0"));
  ExpectLogits(**rank, ReadGolden(file, "ids_1", "logits_1"));
}

// Past the original context, `dynamic` follows Hugging Face fed token by token: a token's rotation
// is that of the sequence which ends with it.
TEST(DynamicRopeTest, MatchesTransformersStepByStep) {
  ReplicaOptions options;
  options.model_dir = GoldenModel("rope_dynamic");
  options.kv_cache_bytes = 64 << 20;
  options.max_rows = 256;
  options.max_batch_tokens = 256;
  auto world = MakeSingleWorld();
  auto rank = ReplicaRank::Load(options, *world);
  ASSERT_TRUE(rank.ok()) << rank.status();
  ExpectLogits(**rank,
               ReadGolden(options.model_dir + "/logits.safetensors", "ids_2", "logits_2_step"));
}

TEST(GreedyTest, GoesOnAsTransformersDoes) {
  const auto golden = nlohmann::json::parse(*ReadFile(GoldenModel("austen/greedy.json")));
  ReplicaOptions options;
  options.model_dir = BundledModel();
  options.kv_cache_bytes = 4 << 20;
  std::vector<Arrival> arrivals;
  for (const auto& g : golden) {
    const uint64_t id = arrivals.size() + 1;
    arrivals.push_back({{.id = id,
                         .prompt_ids = g["prompt_ids"].get<std::vector<int32_t>>(),
                         .sampling = {.temperature = 0, .seed = id},
                         .max_tokens = static_cast<int32_t>(g["ids"].size())}});
  }
  ASSERT_EQ(arrivals.size(), 3u);
  const Outcome outcome = RunOnThreads(options, arrivals);
  for (size_t i = 0; i < arrivals.size(); ++i) {
    EXPECT_EQ(outcome.ids.at(i + 1), golden[i]["ids"].get<std::vector<int32_t>>())
        << golden[i]["prompt"];
  }
}

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenModel(""))) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, LogitsTest, testing::ValuesIn(GoldenNames()),
                         [](const auto& info) { return info.param; });

TEST(LogitsTest, EveryOptionHasAGolden) { EXPECT_GE(GoldenNames().size(), 18u); }

}  // namespace
}  // namespace trireme
