#include "runtime/step_watch.h"

#include <utility>

namespace trireme {

StepWatch::StepWatch(Clock::duration timeout, std::function<uint64_t()> moved,
                     std::function<void()> on_hang)
    : timeout_(timeout),
      moved_(std::move(moved)),
      on_hang_(std::move(on_hang)),
      due_(Clock::now() + timeout),
      thread_([this] { Watch(); }) {}

StepWatch::~StepWatch() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void StepWatch::Watch() {
  const Clock::duration interval = timeout_ / 8;
  uint64_t before = moved_();
  Clock::time_point looked = Clock::now();
  Clock::time_point patient_until = looked + timeout_;
  std::unique_lock lock(mutex_);
  while (!stop_.wait_for(lock, interval, [this] { return stopping_; })) {
    const Clock::time_point now = Clock::now();
    const uint64_t moved = moved_();
    // A process that was itself stopped for a while has not seen anything move.
    const bool slept = now - looked > interval + timeout_ / 2;
    if (moved != before || slept) patient_until = now + timeout_;
    before = moved;
    looked = now;
    if (now < patient_until || now < due_.load(std::memory_order_relaxed)) continue;
    on_hang_();
    return;
  }
}

}  // namespace trireme
