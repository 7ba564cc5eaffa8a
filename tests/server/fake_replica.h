// A scripted replica with an engine thread of its own, to stand behind a link.
#pragma once

#include <condition_variable>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
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

  std::unique_ptr<Link> Connect(Sink sink) override {
    std::lock_guard lock(mutex_);
    auto linked = std::make_unique<FakeLink>(*this, std::move(sink));
    links_[linked.get()];
    news_.notify_all();
    return linked;
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
    Wait([this] { return n_running() == 0; });
  }
  void WaitStopped() {
    Wait([this] { return stopped_; });
  }

 private:
  class FakeLink : public Link {
   public:
    FakeLink(FakeReplica& replica, Sink sink) : replica_(replica), sink_(std::move(sink)) {}
    ~FakeLink() override {
      std::lock_guard lock(replica_.mutex_);
      replica_.links_.erase(this);
      replica_.news_.notify_all();
    }
    void Submit(SequenceRequest request) override {
      std::lock_guard lock(replica_.mutex_);
      ++replica_.n_submitted_;
      replica_.links_.at(this).Submit(std::move(request));
      replica_.news_.notify_all();
    }
    void Cancel(uint64_t id) override {
      std::lock_guard lock(replica_.mutex_);
      ++replica_.n_cancelled_;
      replica_.cancel_news_ = true;
      replica_.links_.at(this).Cancel(id);
      replica_.news_.notify_all();
    }
    void Tell(StepReport report) { sink_(std::move(report)); }

   private:
    FakeReplica& replica_;
    const Sink sink_;
  };

  size_t n_running() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    size_t n = 0;
    for (const auto& [link, script] : links_) n += script.n_running();
    return n;
  }

  template <typename F>
  void Wait(F&& condition) {
    std::unique_lock lock(mutex_);
    news_.wait(lock, condition);
  }

  void Run() {
    const auto has_work = [this] {
      return stopped_ || (n_running() > 0 && (steps_ > 0 || cancel_news_));
    };
    while (true) {
      std::unique_lock lock(mutex_);
      news_.wait(lock, has_work);
      if (stopped_) return;
      const bool advance = steps_ > 0;  // else only what was cancelled ends
      if (advance && steps_ != kAny) --steps_;
      cancel_news_ = false;
      for (auto& [link, script] : links_) {
        link->Tell(script.Step([advance] { return advance ? 1 : 0; }));
      }
      news_.notify_all();
    }
  }

  const ReplicaInfo info_;
  std::mutex mutex_;
  std::condition_variable news_;  // of anything below
  std::map<FakeLink*, ScriptedReplica> links_ ABSL_GUARDED_BY(mutex_);
  int steps_ ABSL_GUARDED_BY(mutex_);
  int n_submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  int n_cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancel_news_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace trireme::test
