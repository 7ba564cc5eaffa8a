// Waiting, in one place: spin briefly, then sleep on a futex that the awaited rank rings.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "base/str.h"
#include "comm/end_job.h"
#include "comm/world.h"

namespace trireme {

// A count in memory that ranks share: one side makes something true and rings, others wait for it.
// Zeroed memory is a valid Bell.
struct alignas(64) Bell {
  std::atomic<uint32_t> rings{0};
  std::atomic<uint32_t> sleepers{0};

  // What was written before is seen by whoever sees the ring. A system call only if somebody
  // sleeps: either this load sees the sleeper, or the sleeper's next look at `rings` sees the ring.
  void Ring() {
    rings.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) WakeSleepers();
  }

  // True once it was rung `count` times (modulo 2^32).
  bool Rung(uint32_t count) const {
    return static_cast<int32_t>(rings.load(std::memory_order_acquire) - count) >= 0;
  }

  void WakeSleepers();
};
static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == 4);

// How one rank waits. Used by that rank's thread only.
class Waiter {
 public:
  using Duration = std::chrono::nanoseconds;
  static constexpr Duration kForever = Duration::max();
  // The longest sleeps of a wait that is polled. Idle polls double after a second of nothing: a
  // poll of MPI costs up to 60 us of CPU where other programs use the caches.
  static constexpr Duration kIdlePoll = std::chrono::milliseconds(5);
  static constexpr Duration kBusyPoll = std::chrono::microseconds(500);

  Waiter(int rank, std::string host, bool may_spin)
      : rank_(rank), host_(std::move(host)), may_spin_(may_spin) {}

  int rank() const { return rank_; }
  const std::string& host() const { return host_; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }

  // True where every thread that computes on this host has a CPU of its own.
  void set_may_spin(bool may_spin) { may_spin_ = may_spin; }

  // Work that goes on only when it is polled; polled in every wait while it returns true.
  void set_background(std::function<bool()> background) { background_ = std::move(background); }

  // Waits until ready() or the deadline; returns ready(). Whoever makes it true rings `bell`;
  // where nobody does, it is polled: each sleep an eighth of the time waited, at most `longest`.
  template <typename Ready>
  bool Until(Bell& bell, const Ready& ready, Deadline deadline, Duration longest = kForever) {
    if (ready()) return true;
    const auto start = std::chrono::steady_clock::now();
    if (may_spin_) {
      do {
        for (int i = 0; i < kLooksPerClock; ++i) {
          if (ready()) return true;
          __builtin_ia32_pause();
        }
      } while (std::chrono::steady_clock::now() - start < kSpin);
    }
    bell.sleepers.fetch_add(1, std::memory_order_seq_cst);
    bool done = false;
    for (;;) {
      const uint32_t rings = bell.rings.load(std::memory_order_seq_cst);
      done = ready();
      if (done || !Sleep(bell, rings, start, deadline, longest)) break;
    }
    bell.sleepers.fetch_sub(1, std::memory_order_seq_cst);
    return done;
  }

  // Until() within `timeout`, for a peer; ends the job with what describe() says if it passes.
  template <typename Ready, typename Describe>
  void Await(Bell& bell, const Ready& ready, std::chrono::milliseconds timeout,
             const Describe& describe, Duration longest = kForever) {
    if (ready()) return;
    if (!Until(bell, ready, std::chrono::steady_clock::now() + timeout, longest)) {
      EndJobAs(rank_, host_, StrCat(describe(), " (waited ", timeout.count(), " ms)"));
    }
  }

 private:
  static constexpr Duration kSpin = std::chrono::microseconds(200);
  static constexpr int kLooksPerClock = 32;

  // False if the deadline has passed.
  bool Sleep(Bell& bell, uint32_t rings, Deadline start, Deadline deadline, Duration longest);

  int rank_;
  std::string host_;
  bool may_spin_;
  std::chrono::milliseconds timeout_ = WorldOptions().timeout;
  std::function<bool()> background_;
};

// CPUs that this thread may run on.
int AvailableCpus();

}  // namespace trireme
