// Fork-join over a few pinned threads. The calling thread is thread 0 and works too.
//
// A worker waits for the next epoch: it spins briefly, so that the verbs of one step follow each
// other without system calls, then sleeps in a futex, so that an idle pool uses no CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace trireme::cpu {

class ThreadPool {
 public:
  // `cpus`: thread i, the calling one included, is pinned to cpus[i]; empty: not pinned.
  ThreadPool(int n_threads, const std::vector<int>& cpus);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // f(thread) on every thread; returns when all have.
  template <typename F>
  void Run(const F& f) {
    RunJob([](const void* context, int thread) { (*static_cast<const F*>(context))(thread); }, &f);
  }

  // f(i, thread) for i in 0 .. n-1. Each thread goes through a contiguous share in order, so that
  // it reads memory in order; when that is done, it takes from the ends of the others' shares.
  // `fork` false: all on the calling thread, for work that is not worth a fork's few microseconds.
  template <typename F>
  void For(int64_t n, const F& f, bool fork = true) {
    if (n <= 1 || workers_.empty() || !fork) {
      for (int64_t i = 0; i < n; ++i) f(i, 0);
      return;
    }
    Deal(n);
    Run([&](int thread) {
      for (int64_t i; (i = TakeOwn(thread)) >= 0;) f(i, thread);
      for (int other = 1; other < size(); ++other) {
        for (int64_t i; (i = TakeFrom((thread + other) % size())) >= 0;) f(i, thread);
      }
    });
  }

 private:
  using Job = void (*)(const void* context, int thread);

  void RunJob(Job job, const void* context);
  void Work(int thread);

  // What is left of a thread's share: begin in the upper half, end in the lower.
  struct alignas(64) Share {
    std::atomic<uint64_t> left = 0;
  };
  void Deal(int64_t n);
  int64_t TakeOwn(int thread);   // the first of its share, or -1
  int64_t TakeFrom(int thread);  // the last of it, or -1

  // Waits until `word` is no longer `old`: spins, then sleeps, counted in `sleepers`.
  void WaitWhile(const std::atomic<uint32_t>& word, uint32_t old, std::atomic<uint32_t>& sleepers);

  std::vector<std::thread> workers_;
  std::vector<Share> shares_;  // one per thread
  int64_t spin_ns_ = 0;

  // Written by the calling thread before it advances epoch_.
  Job job_ = nullptr;  // null: the worker ends
  const void* context_ = nullptr;

  alignas(64) std::atomic<uint32_t> epoch_ = 0;
  std::atomic<uint32_t> epoch_sleepers_ = 0;
  alignas(64) std::atomic<uint32_t> working_ = 0;  // workers that have not finished the job
  std::atomic<uint32_t> done_ = 0;                 // advanced by the last of them
  std::atomic<uint32_t> done_sleepers_ = 0;
};

}  // namespace trireme::cpu
