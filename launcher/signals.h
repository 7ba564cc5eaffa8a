// SIGINT and SIGTERM as calls instead of interruptions.
#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace trireme {

// While it lives, SIGINT and SIGTERM call `on_signal` on a thread of its own. To be made before
// other threads, which inherit that these signals are blocked. The second signal of either kind
// ends the process at once with code 128 + signal.
class SignalWatch {
 public:
  explicit SignalWatch(std::function<void(int signal)> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  void Watch();

  std::function<void(int)> on_signal_;
  int signal_fd_;
  int stop_fd_;
  std::thread thread_;
};

// What a signal does to the work under way: it ends the process with code 128 + signal, unless
// there is something gentler.
class Interruption {
 public:
  Interruption();

  // From now on; an empty function: the process ends. Waits for a call under way.
  void Becomes(std::function<void()> action);

 private:
  absl::Mutex mutex_;
  std::function<void()> action_ ABSL_GUARDED_BY(mutex_);
  SignalWatch watch_;
};

}  // namespace trireme
