#include "kernels/cpu/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>

#include "base/check.h"

namespace trireme::cpu {
namespace {

constexpr int64_t kSpinNs = 50'000;

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Sleep(const std::atomic<uint32_t>& word, uint32_t old) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
}
void WakeAll(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// Adds 1 and wakes who sleeps. Sequentially consistent on both sides: a sleeper either is counted
// here or sees the new value.
void Advance(std::atomic<uint32_t>& word, const std::atomic<uint32_t>& sleepers) {
  word.fetch_add(1);
  if (sleepers.load() > 0) WakeAll(word);
}

void Pin(pthread_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  pthread_setaffinity_np(thread, sizeof(set), &set);  // a CPU that is not ours: run where we may
}

int CpusAvailable() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads, const std::vector<int>& cpus)
    : shares_(static_cast<size_t>(n_threads)) {
  CHECK_LE(1, n_threads);
  CHECK(cpus.empty() || cpus.size() == static_cast<size_t>(n_threads))
      << cpus.size() << " cpus for " << n_threads << " threads";
  if (n_threads <= CpusAvailable()) spin_ns_ = kSpinNs;
  workers_.reserve(static_cast<size_t>(n_threads - 1));
  for (int i = 1; i < n_threads; ++i) {
    workers_.emplace_back([this, i] { Work(i); });
    if (!cpus.empty()) Pin(workers_.back().native_handle(), cpus[static_cast<size_t>(i)]);
  }
  if (!cpus.empty()) Pin(pthread_self(), cpus[0]);
}

ThreadPool::~ThreadPool() {
  job_ = nullptr;
  Advance(epoch_, epoch_sleepers_);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::WaitWhile(const std::atomic<uint32_t>& word, uint32_t old,
                           std::atomic<uint32_t>& sleepers) {
  if (spin_ns_ > 0) {
    const int64_t until = NowNs() + spin_ns_;
    do {
      for (int i = 0; i < 64; ++i) {
        if (word.load(std::memory_order_acquire) != old) return;
        __builtin_ia32_pause();
      }
    } while (NowNs() < until);
  }
  sleepers.fetch_add(1);
  while (word.load() == old) Sleep(word, old);
  sleepers.fetch_sub(1);
}

void ThreadPool::Deal(int64_t n) {
  CHECK_LT(n, int64_t{1} << 32);
  const int64_t threads = size();
  for (int64_t i = 0; i < threads; ++i) {
    const auto begin = static_cast<uint64_t>(n * i / threads);
    const auto end = static_cast<uint64_t>(n * (i + 1) / threads);
    shares_[static_cast<size_t>(i)].left.store(begin << 32 | end, std::memory_order_relaxed);
  }
}

int64_t ThreadPool::TakeOwn(int thread) {
  auto& left = shares_[static_cast<size_t>(thread)].left;
  uint64_t share = left.load(std::memory_order_relaxed);
  while (share >> 32 < (share & 0xffffffffu)) {
    if (left.compare_exchange_weak(share, share + (uint64_t{1} << 32))) {
      return static_cast<int64_t>(share >> 32);
    }
  }
  return -1;
}

int64_t ThreadPool::TakeFrom(int thread) {
  auto& left = shares_[static_cast<size_t>(thread)].left;
  uint64_t share = left.load(std::memory_order_relaxed);
  while (share >> 32 < (share & 0xffffffffu)) {
    if (left.compare_exchange_weak(share, share - 1)) {
      return static_cast<int64_t>(share & 0xffffffffu) - 1;
    }
  }
  return -1;
}

void ThreadPool::RunJob(Job job, const void* context) {
  if (workers_.empty()) return job(context, 0);
  job_ = job;
  context_ = context;
  const uint32_t done = done_.load(std::memory_order_relaxed);
  working_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  Advance(epoch_, epoch_sleepers_);
  job(context, 0);
  WaitWhile(done_, done, done_sleepers_);
}

void ThreadPool::Work(int thread) {
  for (uint32_t epoch = 0;; ++epoch) {
    WaitWhile(epoch_, epoch, epoch_sleepers_);
    if (job_ == nullptr) return;
    job_(context_, thread);
    if (working_.fetch_sub(1) == 1) Advance(done_, done_sleepers_);
  }
}

}  // namespace trireme::cpu
