// The events of one request, gathered from whatever thread they come on.
#pragma once

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "tests/server/client_log.h"

namespace trireme::test {

class Collector {
 public:
  EventCallback callback() {
    return [this](Event&& event) {
      std::lock_guard lock(mutex_);
      log_.Tell(std::move(event));
      news_.notify_all();
    };
  }

  // What has come when the condition holds, or when the request has ended.
  ClientLog WaitEnd() {
    return Wait([] { return false; });
  }
  ClientLog WaitIds(size_t n) {
    return Wait([this, n] { return log_.ids.size() >= n; });
  }
  ClientLog WaitAccepted() {
    return Wait([this] { return log_.accepted.has_value(); });
  }
  ClientLog WaitWaiting() {
    return Wait([this] { return log_.n_waiting > 0; });
  }

 private:
  template <typename F>
  ClientLog Wait(F&& condition) {
    std::unique_lock lock(mutex_);
    news_.wait(lock, [&] { return log_.ended() || condition(); });
    return log_;
  }

  std::mutex mutex_;
  std::condition_variable news_;
  ClientLog log_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::test
