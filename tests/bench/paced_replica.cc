// A replica without a model, for measuring a controller: any number of sequences, each of which
// gets its first token at once and then one every so often.
//
//   paced_replica HOST:PORT SECONDS_PER_TOKEN MODEL_DIR [CA SERVER_NAME]
//
// It has the tokenizer of MODEL_DIR; with CA (PEM) it dials by TLS one whose certificate is for
// SERVER_NAME.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "server/replica_client.h"

namespace trireme {
namespace {

class PacedReplica : public Replica {
 public:
  PacedReplica(absl::Duration interval, std::string tokenizer_json) : interval_(interval) {
    info_.model = "paced";
    info_.fingerprint = "paced";
    info_.tokenizer_json = std::move(tokenizer_json);
    info_.vocab_size = 1 << 20;
    info_.context_length = 1 << 24;
    info_.max_rows = 1 << 20;
    info_.kv_tokens = int64_t{1} << 40;
    info_.kv_block_size = 16;
    info_.credits = {.sequences = info_.max_rows, .kv_tokens = info_.kv_tokens};
    info_.hosts = {"here"};
    info_.rank_pids = {getpid()};
  }

  const ReplicaInfo& info() const override { return info_; }

  // Of one controller at a time.
  std::unique_ptr<Link> Connect(Sink sink) override {
    SetSink(std::move(sink));
    return std::make_unique<PacedLink>(*this);
  }

  void Stop() override {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }

  // One step for all that is due.
  void Run() {
    absl::MutexLock lock(&mutex_);
    const auto news = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopped_ || (!due_.empty() && due_.begin()->first <= absl::Now());
    };
    while (!stopped_) {
      StepReport report;
      for (const absl::Time now = absl::Now(); !due_.empty() && due_.begin()->first <= now;) {
        const auto [time, id] = *due_.begin();
        due_.erase(due_.begin());
        Advance(time, id, report);
      }
      report.stats.running = static_cast<int32_t>(sequences_.size());
      if (!report.deltas.empty() && sink_ != nullptr) sink_(std::move(report));
      const absl::Time next = due_.empty() ? absl::InfiniteFuture() : due_.begin()->first;
      mutex_.AwaitWithDeadline(absl::Condition(&news), next);
    }
  }

 private:
  class PacedLink : public Link {
   public:
    explicit PacedLink(PacedReplica& replica) : replica_(replica) {}
    ~PacedLink() override { replica_.SetSink(nullptr); }
    void Submit(SequenceRequest request) override { replica_.Submit(request); }
    void Cancel(uint64_t id) override { replica_.Cancel(id); }

   private:
    PacedReplica& replica_;
  };

  struct Sequence {
    int32_t n = 0;  // ids so far
    int32_t max_tokens = 0;
    bool cancelled = false;
  };

  void SetSink(Sink sink) {
    absl::MutexLock lock(&mutex_);
    sink_ = std::move(sink);
    sequences_.clear();
    due_.clear();
  }

  void Submit(const SequenceRequest& request) {
    absl::MutexLock lock(&mutex_);
    const auto n = static_cast<int32_t>(request.emitted_ids.size());
    sequences_[request.id] = {n, request.max_tokens};
    due_.emplace(absl::Now(), request.id);
  }

  void Cancel(uint64_t id) {
    absl::MutexLock lock(&mutex_);
    auto it = sequences_.find(id);
    if (it == sequences_.end()) return;
    it->second.cancelled = true;
    due_.emplace(absl::Now(), id);
  }

  void Advance(absl::Time time, uint64_t id, StepReport& report)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto it = sequences_.find(id);
    if (it == sequences_.end()) return;
    Sequence& sequence = it->second;
    SequenceDelta& delta = report.deltas.emplace_back();
    delta.id = id;
    delta.offset = sequence.n;
    if (sequence.cancelled) {
      delta.finish = FinishReason::kCancelled;
    } else {
      delta.ids = {300 + sequence.n % 500};
      if (++sequence.n >= sequence.max_tokens) delta.finish = FinishReason::kLength;
    }
    delta.finish.has_value() ? void(sequences_.erase(it))
                             : void(due_.emplace(time + interval_, id));
  }

  const absl::Duration interval_;
  ReplicaInfo info_;
  absl::Mutex mutex_;
  Sink sink_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, Sequence> sequences_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Time, uint64_t> due_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

int Main(int argc, char** argv) {
  if (argc != 4 && argc != 6) {
    std::fprintf(stderr,
                 "usage: paced_replica HOST:PORT SECONDS_PER_TOKEN MODEL_DIR [CA SERVER_NAME]\n");
    return 2;
  }
  auto tokenizer = ReadFile(std::string(argv[3]) + "/tokenizer.json");
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "paced_replica: %s\n", Message(tokenizer.status()).c_str());
    return 1;
  }
  PacedReplica replica(absl::Seconds(std::atof(argv[2])), *std::move(tokenizer));
  ReplicaClient::Options options{.controllers = {argv[1]}};
  if (argc == 6) options.tls = {.files = {.ca = argv[4]}, .server_name = argv[5]};
  ReplicaClient client(replica, options);
  client.Start();
  replica.Run();
  const absl::Status end = client.Wait();
  if (!end.ok()) std::fprintf(stderr, "paced_replica: %s\n", Message(end).c_str());
  return end.ok() ? 0 : 1;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) { return trireme::Main(argc, argv); }
