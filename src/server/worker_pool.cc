#include "server/worker_pool.h"

#include <sys/resource.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace trireme {

WorkerPool::WorkerPool(int n_threads, size_t max_jobs, int nice, size_t max_bytes)
    : max_jobs_(max_jobs), max_bytes_(max_bytes) {
  for (int i = 0; i < n_threads; ++i) threads_.emplace_back([this, nice] { Work(nice); });
}

WorkerPool::~WorkerPool() { Stop(); }

bool WorkerPool::Run(size_t n_bytes, std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= max_jobs_) return false;
    if (!jobs_.empty() && n_bytes > max_bytes_ - std::min(n_bytes_, max_bytes_)) return false;
    n_bytes_ += n_bytes;
    jobs_.push_back({n_bytes, std::move(job)});
  }
  news_.notify_one();
  return true;
}

bool WorkerPool::RunNext(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    jobs_.push_front({0, std::move(job)});
  }
  news_.notify_one();
  return true;
}

void WorkerPool::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkerPool::Work(int nice) {
  if (nice != 0) setpriority(PRIO_PROCESS, 0, nice);  // on Linux, of the calling thread alone
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      news_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      n_bytes_ -= job.n_bytes;
    }
    job.run();
  }
}

}  // namespace trireme
