#include "runtime/replica_rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/file.h"
#include "harness.h"

namespace trireme {
namespace {

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
  options.kv_cache_bytes = 10;
  const absl::Status status = LoadAlone(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr("--kv-cache-bytes 10: expected at least"));
}

TEST(ReplicaRankTest, NamesWhatRanksDifferIn) {
  ReplicaOptions a = Options(), b = Options();
  a.layout.tp = b.layout.tp = 2;
  b.version = "2";
  EXPECT_THAT(Message(LoadPair(a, b)), HasSubstr("has version=1, rank 1"));
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

// Bytes that this process has read by system calls.
int64_t BytesRead() {
  std::ifstream io("/proc/self/io");
  std::string key;
  int64_t value = 0;
  while (io >> key >> value) {
    if (key == "rchar:") return value;
  }
  return -1;
}

TEST(ReplicaRankTest, AReplicaReadsEachWeightByteOnce) {
  for (int tp : {1, 2, 4}) {
    ReplicaOptions options = Options();
    options.model_dir = BundledModel();
    options.layout.tp = tp;
    const int64_t weights =
        static_cast<int64_t>(std::filesystem::file_size(options.model_dir + "/model.safetensors"));
    const int64_t before = BytesRead();
    const Outcome outcome = RunOnThreads(options, {});
    const int64_t read = BytesRead() - before;
    EXPECT_GE(read, weights);
    // Rank 0: the tokenizer. Every rank: header, norms, config and the fingerprint's samples.
    EXPECT_LE(read, weights + (int64_t{192} << 10) + tp * (int64_t{96} << 10)) << "tp " << tp;
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
        (*rank)->WarmUp();
        if (world->rank() == 0) {
          std::lock_guard<std::mutex> lock(mutex_);
          replica_ = &(*rank)->replica();
          changed_.notify_all();
        }
        (*rank)->Run();
      });
    }
    Await([&] { return replica_ != nullptr; });
    replica_->SetSink([this](StepReport&& report) {
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
    replica_->Stop();
    for (auto& thread : threads_) thread.join();
  }

  Replica& replica() { return *replica_; }
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
  std::vector<int32_t> ids_;
  std::optional<FinishReason> finish_;
  ReplicaStats stats_;
  std::vector<std::thread> threads_;
};

TEST(ReplicaTest, CancelFreesBlocksOnAPipeline) {
  ReplicaOptions options = Options();
  options.layout = {.tp = 2, .pp = 2};
  RunningReplica running(options);
  running.replica().Submit({.id = 1, .prompt_ids = {1, 2, 3}, .max_tokens = 200});
  running.AwaitSomeIds();
  running.replica().Cancel(1);
  EXPECT_EQ(running.AwaitFinish(), FinishReason::kCancelled);
  running.AwaitNoBlocksUsed();
}

TEST(ReplicaTest, GeneratesToTheEnd) {
  RunningReplica running(Options());
  running.replica().Submit({.id = 1, .prompt_ids = {1, 2, 3}, .max_tokens = 20});
  EXPECT_EQ(running.AwaitFinish(), FinishReason::kLength);
}

}  // namespace
}  // namespace trireme
