#include "comm/wait.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace trireme {
namespace {

constexpr Waiter::Duration kBusyFor = std::chrono::seconds(1);
constexpr Waiter::Duration kShortestSleep = std::chrono::microseconds(20);

// Not FUTEX_PRIVATE: the ranks may be processes. `timeout` is relative; kForever: none.
void FutexWait(std::atomic<uint32_t>& word, uint32_t expected, Waiter::Duration timeout) {
  timespec relative = {};
  relative.tv_sec = static_cast<time_t>(timeout.count() / 1'000'000'000);
  relative.tv_nsec = static_cast<long>(timeout.count() % 1'000'000'000);
  syscall(SYS_futex, &word, FUTEX_WAIT, expected, timeout == Waiter::kForever ? nullptr : &relative,
          nullptr, 0);
}

}  // namespace

void Bell::WakeSleepers() { syscall(SYS_futex, &rings, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

bool Waiter::Sleep(Bell& bell, uint32_t rings, Deadline start, Deadline deadline,
                   Duration longest) {
  const Deadline now = std::chrono::steady_clock::now();
  if (now >= deadline) return false;
  if (background_ && background_()) {
    longest = std::min(longest, now - start < kBusyFor ? kBusyPoll : kIdlePoll);
  }
  if (longest == kIdlePoll && now - start > kBusyFor) longest = 2 * kIdlePoll;
  Duration sleep = kForever;
  if (longest != kForever) {
    sleep = std::clamp<Duration>((now - start) / 8, kShortestSleep, longest);
  }
  if (deadline != kNoDeadline) sleep = std::min<Duration>(sleep, deadline - now);
  FutexWait(bell.rings, rings, sleep);
  return true;
}

int AvailableCpus() {
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) return 1;
  return CPU_COUNT(&cpus);
}

}  // namespace trireme
