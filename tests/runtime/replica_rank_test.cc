#include "runtime/replica_rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/file.h"
#include "harness.h"
#include "tests/checkpoint/read_counter.h"
#include "tests/comm/forwarding_world.h"

namespace trireme {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ReplicaOptions Options() {
  ReplicaOptions options;
  options.model_dir = GoldenModel("gqa_f32");
  options.kv_cache_bytes = 1 << 20;
  options.threads = 1;
  options.version = "1";
  return options;
}

absl::Status LoadAlone(const ReplicaOptions& options) {
  auto world = MakeSingleWorld();
  return ReplicaRank::Load(options, *world).status();
}

// Two ranks with different options; both must report the same error.
absl::Status LoadPair(const ReplicaOptions& a, const ReplicaOptions& b) {
  auto worlds = MakeThreadWorlds(2);
  absl::Status second;
  std::thread thread([&] { second = ReplicaRank::Load(b, *worlds[1]).status(); });
  const absl::Status first = ReplicaRank::Load(a, *worlds[0]).status();
  thread.join();
  EXPECT_EQ(first, second);
  return first;
}

TEST(ReplicaRankTest, RefusesRanksThatDoNotMatchTheLayout) {
  ReplicaOptions options = Options();
  options.layout = {.tp = 2, .pp = 2};
  const absl::Status status = LoadAlone(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status),
            "--tp 2 x --pp 2 needs 4 ranks, but 1 is running; start with mpirun -n 4");
}

TEST(ReplicaRankTest, RefusesTooLittleKvMemory) {
  ReplicaOptions options = Options();
  // K and V of two layers, 2 heads of 8 float32 for 16 tokens.
  options.kv_cache_bytes = 2 * 2 * 2 * 8 * 4 * 16;
  EXPECT_TRUE(LoadAlone(options).ok());
  --options.kv_cache_bytes;
  const absl::Status status = LoadAlone(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      Message(status),
      "--kv-cache-bytes 4095: expected at least 4096, the bytes of one KV block on this rank");
}

TEST(ReplicaRankTest, NamesTheRankThatHasTooLittleKvMemory) {
  ReplicaOptions a = Options(), b = Options();
  a.layout.tp = b.layout.tp = 2;
  b.kv_cache_bytes = 10;
  const absl::Status status = LoadPair(a, b);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr("rank 1: --kv-cache-bytes 10: expected at least 2048"));
}

TEST(ReplicaRankTest, RefusesAContextOfOneToken) {
  ReplicaOptions options = Options();
  options.context_length = 2;
  EXPECT_TRUE(LoadAlone(options).ok());
  options.context_length = 1;
  const absl::Status status = LoadAlone(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status),
            "--context-length 1: expected at least 2, one token of the prompt and one more");
}

TEST(ReplicaRankTest, NamesWhatRanksDifferIn) {
  ReplicaOptions a = Options(), b = Options();
  a.layout.tp = b.layout.tp = 2;
  b.version = "2";
  EXPECT_THAT(Message(LoadPair(a, b)), HasSubstr("has version=1, rank 1"));
  b = a;
  b.build_id = "c0ffee";
  EXPECT_THAT(Message(LoadPair(a, b)),
              AllOf(HasSubstr("has build=" + BuildId()), HasSubstr("has build=c0ffee")));
  b = a;
  b.max_rows = 3;
  EXPECT_THAT(Message(LoadPair(a, b)), HasSubstr("max-rows=64, rank 1"));
  b = a;
  b.model_dir = GoldenModel("gqa_8_2_eps");
  const absl::Status status = LoadPair(a, b);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("the ranks differ: rank 0 on "));
  EXPECT_THAT(Message(status), HasSubstr("model="));
}

TEST(ReplicaRankTest, OneRanksErrorEndsAllWithIt) {
  ReplicaOptions a = Options(), b = Options();
  a.layout.tp = b.layout.tp = 2;
  b.model_dir = "/nowhere";
  const absl::Status status = LoadPair(a, b);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr("rank 1: /nowhere/config.json: cannot open"));
}

// What every rank reads before its weights: the configs, headers and the fingerprint's samples.
int64_t OpeningBytes(const std::string& directory) {
  ReadCounter counter;
  EXPECT_TRUE(ReadModelConfig(directory, Architectures()).ok());
  EXPECT_TRUE(OpenCheckpoint(directory).ok());
  return counter.Take().bytes;
}

int64_t SizeIfThere(const std::string& path) {
  return FileExists(path) ? static_cast<int64_t>(std::filesystem::file_size(path)) : 0;
}

// What LoadModel promises (runtime/model.h), of a bf16 checkpoint without biases: each byte once,
// but norms on every rank of a stage, KV heads on every rank that needs them, and tied embeddings
// on the first stage and the last.
int64_t WeightBytesOfAllRanks(const ModelConfig& c, const Layout& layout) {
  int64_t n_heads = 2 * c.n_heads;  // q and o; k and v of each rank
  for (int r = 0; r < layout.tp; ++r) n_heads += 2 * Split::Make(c, layout, r)->kv_heads().size();
  const int64_t norm = layout.tp * c.hidden;
  const int64_t layer = (n_heads * c.head_dim + 3 * c.ffn) * c.hidden + 2 * norm;
  const int64_t n_vocabularies = c.tied_embeddings && layout.pp == 1 ? 1 : 2;
  return 2 * (c.n_layers * layer + norm + n_vocabularies * c.vocab * c.hidden);
}

TEST(ReplicaRankTest, AReplicaReadsEachWeightByteOnce) {
  for (const std::string& model : {BundledModel(), GoldenModel("heads_6_2_sharded")}) {
    const ModelConfig config = *ReadModelConfig(model, Architectures());
    for (const Layout& layout :
         std::vector<Layout>{{}, {.tp = 2}, {.tp = 3}, {.tp = 4}, {.pp = 2}, {.tp = 2, .pp = 3}}) {
      ReplicaOptions options = Options();
      options.model_dir = model;
      options.layout = layout;
      const int64_t expected =
          WeightBytesOfAllRanks(config, layout) + layout.n_ranks() * OpeningBytes(model) +
          SizeIfThere(model + "/tokenizer.json") + SizeIfThere(model + "/tokenizer_config.json");
      ReadCounter counter;
      RunOnThreads(options, {});
      const int64_t read = counter.Take().bytes;
      const std::string what = StrCat(model, ", tp ", layout.tp, " pp ", layout.pp);
      EXPECT_GE(read, expected) << what;
      EXPECT_LE(read, expected + 16) << what;  // malloc may ask /proc/sys/vm/overcommit_memory
    }
  }
}

// Loads all ranks as threads and shows each to `look`, one at a time.
void LookAtRanks(const ReplicaOptions& options, const std::function<void(ReplicaRank&)>& look) {
  auto worlds = MakeThreadWorlds(options.layout.n_ranks());
  std::mutex mutex;  // guards look
  std::vector<std::thread> threads;
  for (auto& world : worlds) {
    threads.emplace_back([&] {
      auto rank = ReplicaRank::Load(options, *world);
      ASSERT_TRUE(rank.ok()) << rank.status();
      std::lock_guard<std::mutex> lock(mutex);
      look(**rank);
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(ReplicaRankTest, ALoadedRankHasRunAForwardPass) {
  ReplicaOptions options = Options();
  options.layout = {.tp = 2, .pp = 2};
  LookAtRanks(options, [](ReplicaRank& rank) {
    EXPECT_GT(rank.mesh().tp_traffic().reduce_bytes, 0);
    if (!rank.split().last_stage()) return;
    ASSERT_FALSE(rank.engine().logits().empty());
    EXPECT_EQ(rank.engine().logits().dim(1), rank.split().vocab().size());
  });
}

TEST(ReplicaRankTest, SequenceParallelismBeginsAt64TokensARankUnlessForced) {
  const std::map<SequenceParallel, int64_t> expected = {{SequenceParallel::kAuto, 128},
                                                        {SequenceParallel::kOn, 0},
                                                        {SequenceParallel::kOff, INT64_MAX}};
  for (const auto& [mode, tokens] : expected) {
    ReplicaOptions options = Options();
    options.layout = {.tp = 2, .sequence_parallel = mode};
    LookAtRanks(options, [tokens = tokens](ReplicaRank& rank) {
      EXPECT_EQ(rank.scheduler_options().sequence_parallel_tokens, tokens);
    });
  }
}

// The leader with its loop on a thread of its own.
class RunningReplica {
 public:
  explicit RunningReplica(const ReplicaOptions& options) {
    worlds_ = MakeThreadWorlds(options.layout.n_ranks());
    for (auto& world : worlds_) {
      threads_.emplace_back([&, this] {
        auto rank = ReplicaRank::Load(options, *world);
        ASSERT_TRUE(rank.ok()) << rank.status();
        if (world->rank() == 0) {
          std::lock_guard<std::mutex> lock(mutex_);
          replica_ = &(*rank)->replica();
          changed_.notify_all();
        }
        (*rank)->Run();
      });
    }
    Await([&] { return replica_ != nullptr; });
    link_ = replica_->Connect([this](StepReport&& report) {
      std::lock_guard<std::mutex> lock(mutex_);
      for (SequenceDelta& delta : report.deltas) {
        ids_.insert(ids_.end(), delta.ids.begin(), delta.ids.end());
        if (delta.finish) finish_ = delta.finish;
      }
      stats_ = report.stats;
      changed_.notify_all();
    });
  }
  ~RunningReplica() {
    link_.reset();
    replica_->Stop();
    for (auto& thread : threads_) thread.join();
  }

  Replica::Link& link() { return *link_; }
  FinishReason AwaitFinish() {
    Await([&] { return finish_.has_value(); });
    return *finish_;
  }
  void AwaitSomeIds() {
    Await([&] { return ids_.size() > 2; });
  }
  void AwaitNoBlocksUsed() {
    Await([&] { return stats_.kv_blocks_used == 0; });
  }

 private:
  template <typename Predicate>
  void Await(const Predicate& predicate) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, predicate);
  }

  std::vector<std::unique_ptr<World>> worlds_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  Replica* replica_ = nullptr;
  std::unique_ptr<Replica::Link> link_;
  std::vector<int32_t> ids_;
  std::optional<FinishReason> finish_;
  ReplicaStats stats_;
  std::vector<std::thread> threads_;
};

TEST(ReplicaTest, CancelFreesBlocksOnAPipeline) {
  ReplicaOptions options = Options();
  options.layout = {.tp = 2, .pp = 2};
  RunningReplica running(options);
  running.link().Submit({.id = 1, .prompt_ids = {1, 2, 3}, .max_tokens = 200});
  running.AwaitSomeIds();
  running.link().Cancel(1);
  EXPECT_EQ(running.AwaitFinish(), FinishReason::kCancelled);
  running.AwaitNoBlocksUsed();
}

// Rank 0's world with results that arrive only when the leader waits for them, having nothing else
// to do: then as many plans are in flight as it will ever have.
class LateResults : public ForwardingWorld {
 public:
  using ForwardingWorld::ForwardingWorld;

  int most_in_flight() const { return most_in_flight_; }

  void Publish(std::span<const std::byte> message) override {
    most_in_flight_ = std::max(most_in_flight_, ++n_in_flight_);
    world_.Publish(message);
  }
  std::optional<std::vector<std::byte>> PollReport() override {
    if (late_.has_value()) --n_in_flight_;
    return std::exchange(late_, std::nullopt);
  }
  void Wait(Deadline deadline, bool expect_report) override {
    late_ = world_.PollReport();
    if (!late_.has_value()) world_.Wait(deadline, expect_report);
  }

 private:
  std::optional<std::vector<std::byte>> late_;
  int n_in_flight_ = 0;
  int most_in_flight_ = 0;
};

TEST(ReplicaTest, KeepsAPlanInFlightPerStage) {
  ReplicaOptions options = Options();
  options.model_dir = GoldenModel("heads_6_2_sharded");
  options.layout.pp = 3;
  auto worlds = MakeThreadWorlds(3);
  std::vector<std::thread> followers;
  for (int r = 1; r < 3; ++r) {
    followers.emplace_back([&, r] {
      auto rank = ReplicaRank::Load(options, *worlds[r]);
      ASSERT_TRUE(rank.ok()) << rank.status();
      (*rank)->Run();
    });
  }
  LateResults world(*worlds[0]);
  auto rank = ReplicaRank::Load(options, world);
  ASSERT_TRUE(rank.ok()) << rank.status();
  Replica& replica = (*rank)->replica();
  int n_ended = 0;
  const auto link = replica.Connect([&](StepReport&& report) {
    for (const SequenceDelta& delta : report.deltas) n_ended += delta.finish.has_value();
    if (n_ended == 6) replica.Stop();
  });
  for (uint64_t id = 1; id <= 6; ++id) {
    link->Submit({.id = id, .prompt_ids = {1, 2, 3}, .max_tokens = 5});
  }
  (*rank)->Run();
  for (std::thread& follower : followers) follower.join();
  EXPECT_EQ(world.most_in_flight(), 3);
}

TEST(ReplicaTest, GeneratesToTheEnd) {
  RunningReplica running(Options());
  running.link().Submit({.id = 1, .prompt_ids = {1, 2, 3}, .max_tokens = 20});
  EXPECT_EQ(running.AwaitFinish(), FinishReason::kLength);
}

}  // namespace
}  // namespace trireme
