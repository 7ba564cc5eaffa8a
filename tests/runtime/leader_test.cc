// What the leader does when the other ranks do not answer, and what it says of its replica.
#include "runtime/leader.h"

#include <gtest/gtest.h>

#include <thread>

#include "harness.h"
#include "tests/checkpoint/test_files.h"

namespace trireme {
namespace {

ReplicaOptions Options() {
  ReplicaOptions options;
  options.model_dir = GoldenModel("gqa_f32");
  options.kv_cache_bytes = 1 << 20;
  options.threads = 1;
  options.version = "1";
  return options;
}

// Two stages have loaded; then the last one hangs.
void LoseTheLastStage() {
  ReplicaOptions options = Options();
  options.layout.pp = 2;
  options.step_timeout = std::chrono::milliseconds(50);
  auto worlds = MakeThreadWorlds(2);
  absl::StatusOr<std::unique_ptr<ReplicaRank>> last;
  std::thread hangs([&] { last = ReplicaRank::Load(options, *worlds[1]); });
  auto first = ReplicaRank::Load(options, *worlds[0]);
  hangs.join();
  const auto link = (*first)->replica().Connect([](StepReport&&) {});
  link->Submit({.id = 1, .prompt_ids = {1, 2, 3}, .max_tokens = 5});
  (*first)->Run();
}

TEST(LeaderDeathTest, AHangingStageEndsTheJob) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(LoseTheLastStage(), testing::ExitedWithCode(1),
              "rank 0 on .*: no result from the other stages .rank 1 on .+. for [0-9]+ ms: one of");
}

TEST(LeaderTest, TheOtherStagesRanksAreNamedByHost) {
  EXPECT_EQ(OtherStages({"a", "a", "a", "b", "b", "c"}, 2),
            "rank 2 on a, ranks 3-4 on b, rank 5 on c");
  EXPECT_EQ(OtherStages({"a", "a"}, 2), "");
}

// Stop comes while plans are in flight: the last stage's results are taken, so that its sends are
// done when the ranks part.
TEST(LeaderTest, AwaitsWhatIsInFlightWhenItStops) {
  ReplicaOptions options = Options();
  options.layout.pp = 2;
  auto worlds = MakeThreadWorlds(2);
  std::thread last([&] {
    auto rank = ReplicaRank::Load(options, *worlds[1]);
    (*rank)->Run();
  });
  auto rank = ReplicaRank::Load(options, *worlds[0]);
  Replica& replica = (*rank)->replica();
  const auto link = replica.Connect([&](StepReport&& report) {
    if (!report.deltas.empty()) replica.Stop();
  });
  for (uint64_t id : {1, 2}) {
    link->Submit({.id = id, .prompt_ids = {1, 2, 3}, .max_tokens = 50});
  }
  (*rank)->Run();
  last.join();
  EXPECT_FALSE(worlds[0]->PollReport().has_value());
}

ReplicaInfo InfoOf(const ReplicaOptions& options) {
  auto world = MakeSingleWorld();
  return (*ReplicaRank::Load(options, *world))->replica().info();
}

// The memory that is free differs from start to start; a relaunched replica is the same model.
TEST(ReplicaInfoTest, MemoryIsNotPartOfWhatAModelIs) {
  ReplicaOptions options = Options();
  const ReplicaInfo much = InfoOf(options);
  options.kv_cache_bytes = 1 << 15;
  const ReplicaInfo little = InfoOf(options);
  EXPECT_LT(little.kv_tokens, little.context_length);
  EXPECT_LT(little.kv_tokens, much.kv_tokens);
  EXPECT_EQ(little.context_length, much.context_length);
  EXPECT_EQ(little.fingerprint, much.fingerprint);
}

TEST(ReplicaInfoTest, TheFingerprintTellsConfigurationsApart) {
  const TempDir dir;
  ReplicaOptions options = Options();
  const std::string original = options.model_dir;
  options.model_dir = dir.path();
  for (const char* name : {"config.json", "model.safetensors"}) {
    dir.Write(name, *ReadFile(original + "/" + name));
  }
  EXPECT_EQ(InfoOf(options).fingerprint, InfoOf(Options()).fingerprint);
  std::string config = *ReadFile(original + "/config.json");
  const std::string theta = "500000.0";
  config.replace(config.find(theta), theta.size(), "400000.0");
  dir.Write("config.json", config);
  EXPECT_NE(InfoOf(options).fingerprint, InfoOf(Options()).fingerprint);
}

}  // namespace
}  // namespace trireme
