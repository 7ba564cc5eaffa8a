// A scripted replica with an engine thread of its own, to stand behind a link.
#pragma once

#include <condition_variable>
#include <limits>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
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
    std::lock_guard lock(mutex_);
    sink_ = std::move(sink);
    if (sink_ == nullptr) script_.DropAll();
    news_.notify_all();
  }
  void Submit(SequenceRequest request) override {
    std::lock_guard lock(mutex_);
    ++n_submitted_;
    script_.Submit(std::move(request));
    news_.notify_all();
  }
  void Cancel(uint64_t id) override {
    std::lock_guard lock(mutex_);
    ++n_cancelled_;
    cancel_news_ = true;
    script_.Cancel(id);
    news_.notify_all();
  }
  void Stop() override {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    news_.notify_all();
  }

  void LetSteps(int steps) {
    std::lock_guard lock(mutex_);
    steps_ = steps;
    news_.notify_all();
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
    std::unique_lock lock(mutex_);
    news_.wait(lock, condition);
  }

  void Run() {
    const auto has_work = [this] {
      return stopped_ ||
             (sink_ != nullptr && script_.n_running() > 0 && (steps_ > 0 || cancel_news_));
    };
    while (true) {
      std::unique_lock lock(mutex_);
      news_.wait(lock, has_work);
      if (stopped_) return;
      const bool advance = steps_ > 0;  // else only what was cancelled ends
      if (advance && steps_ != kAny) --steps_;
      cancel_news_ = false;
      StepReport report = script_.Step([advance] { return advance ? 1 : 0; });
      sink_(std::move(report));
      news_.notify_all();
    }
  }

  const ReplicaInfo info_;
  std::mutex mutex_;
  std::condition_variable news_;  // of anything below
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
