// A scripted replica with an engine thread of its own, to stand behind a link.
#pragma once

#include <limits>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "runtime/replica.h"
#include "tests/server/scripted_replica.h"

namespace trireme::test {

class FakeReplica : public Replica {
 public:
  static constexpr int kAny = std::numeric_limits<int>::max();

  // Makes `steps` steps while it has sequences, then holds until LetSteps.
  explicit FakeReplica(ReplicaInfo info = Info(), int steps = kAny)
      : info_(std::move(info)), steps_(steps), thread_([this] { Run(); }) {}
  ~FakeReplica() override {
    Stop();
    thread_.join();
  }

  const ReplicaInfo& info() const override { return info_; }

  void SetSink(Sink sink) override {
    absl::MutexLock lock(&mutex_);
    sink_ = std::move(sink);
    if (sink_ == nullptr) script_.DropAll();
  }
  void Submit(SequenceRequest request) override {
    absl::MutexLock lock(&mutex_);
    ++n_submitted_;
    script_.Submit(std::move(request));
  }
  void Cancel(uint64_t id) override {
    absl::MutexLock lock(&mutex_);
    ++n_cancelled_;
    cancel_news_ = true;
    script_.Cancel(id);
  }
  void Stop() override {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }

  void LetSteps(int steps) {
    absl::MutexLock lock(&mutex_);
    steps_ = steps;
  }

  // Each waits for what it names.
  void WaitSubmitted(int n) {
    Wait([this, n] { return n_submitted_ >= n; });
  }
  void WaitCancelled(int n) {
    Wait([this, n] { return n_cancelled_ >= n; });
  }
  void WaitHolding() {
    Wait([this] { return steps_ == 0; });
  }
  void WaitIdle() {
    Wait([this] { return script_.n_running() == 0; });
  }
  void WaitStopped() {
    Wait([this] { return stopped_; });
  }

 private:
  template <typename F>
  void Wait(F&& condition) {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&condition));
  }

  void Run() {
    const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopped_ ||
             (sink_ != nullptr && script_.n_running() > 0 && (steps_ > 0 || cancel_news_));
    };
    while (true) {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_work));
      if (stopped_) return;
      const bool advance = steps_ > 0;  // else only what was cancelled ends
      if (advance && steps_ != kAny) --steps_;
      cancel_news_ = false;
      StepReport report = script_.Step([advance] { return advance ? 1 : 0; });
      sink_(std::move(report));
    }
  }

  const ReplicaInfo info_;
  absl::Mutex mutex_;
  ScriptedReplica script_ ABSL_GUARDED_BY(mutex_);
  Sink sink_ ABSL_GUARDED_BY(mutex_);
  int steps_ ABSL_GUARDED_BY(mutex_);
  int n_submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  int n_cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancel_news_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace trireme::test
