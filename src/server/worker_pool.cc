#include "server/worker_pool.h"

#include <sys/resource.h>

#include <mutex>
#include <utility>

namespace trireme {

WorkerPool::WorkerPool(int n_threads, size_t max_jobs, int nice) : max_jobs_(max_jobs) {
  for (int i = 0; i < n_threads; ++i) threads_.emplace_back([this, nice] { Work(nice); });
}

WorkerPool::~WorkerPool() { Stop(); }

bool WorkerPool::Run(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= max_jobs_) return false;
    jobs_.push_back(std::move(job));
  }
  news_.notify_one();
  return true;
}

bool WorkerPool::RunNext(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    jobs_.push_front(std::move(job));
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
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      news_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace trireme
