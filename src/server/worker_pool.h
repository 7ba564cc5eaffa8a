// A few threads for work that takes longer than a mailbox may wait, such as tokenizing.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"

namespace trireme {

class WorkerPool {
 public:
  // Beyond `max_jobs` waiting, jobs are refused. `nice`: by which its threads stand back behind
  // others (nice(2)).
  WorkerPool(int n_threads, size_t max_jobs, int nice = 0);
  ~WorkerPool();  // Stop

  // Runs `job` on one of the threads; false if too many are waiting or it has stopped.
  bool Run(std::function<void()> job);

  // The same before all that wait, however many; false if it has stopped.
  bool RunNext(std::function<void()> job);

  // Returns when every job has been run.
  void Stop();

 private:
  void Work(int nice);

  const size_t max_jobs_;
  std::mutex mutex_;
  std::condition_variable news_;  // of the jobs or `stopping_`
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace trireme
