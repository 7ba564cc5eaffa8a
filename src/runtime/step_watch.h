// StepWatch: ends the job when rank 0's loop hangs, be it in a kernel, a driver or a lock. Waits
// for peers have deadlines of their own, which say more.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace trireme {

class StepWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // `moved` grows while a step is computed, for however long; it is called from the watch's thread.
  // `on_hang` (EndJob) is called on it, once: neither has it grown nor has Turn() been called for
  // `timeout`.
  StepWatch(Clock::duration timeout, std::function<uint64_t()> moved,
            std::function<void()> on_hang);
  ~StepWatch();

  // The loop goes on; until `wait` from now it may rest.
  void Turn(Clock::duration wait = {}) {
    due_.store(Clock::now() + wait + timeout_, std::memory_order_relaxed);
  }

 private:
  void Watch();

  const Clock::duration timeout_;
  const std::function<uint64_t()> moved_;
  const std::function<void()> on_hang_;
  std::atomic<Clock::time_point> due_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace trireme
