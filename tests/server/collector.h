// The events of one request, gathered from whatever thread they come on.
#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/server/client_log.h"

namespace trireme::test {

class Collector {
 public:
  EventCallback callback() {
    return [this](Event&& event) {
      absl::MutexLock lock(&mutex_);
      log_.Tell(std::move(event));
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
    const auto done = [&] { return log_.ended() || condition(); };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done));
    return log_;
  }

  absl::Mutex mutex_;
  ClientLog log_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::test
