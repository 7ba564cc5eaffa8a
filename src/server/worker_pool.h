// A few threads for work that takes longer than a mailbox may wait, such as tokenizing.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"

namespace trireme {

class WorkerPool {
 public:
  // Beyond `max_jobs` waiting, or `max_bytes` of them all, jobs are refused. `nice`: by which its
  // threads stand back behind others (nice(2)).
  WorkerPool(int n_threads, size_t max_jobs, int nice = 0, size_t max_bytes = SIZE_MAX);
  ~WorkerPool();  // Stop

  // Runs `job`, which holds so many bytes until then, on one of the threads; false if too much is
  // waiting or it has stopped. (Where nothing waits, one may be as large as it is.)
  bool Run(size_t n_bytes, std::function<void()> job);

  // The same before all that wait, however many; false if it has stopped.
  bool RunNext(std::function<void()> job);

  // Returns when every job has been run.
  void Stop();

 private:
  struct Job {
    size_t n_bytes;
    std::function<void()> run;
  };
  void Work(int nice);

  const size_t max_jobs_, max_bytes_;
  std::mutex mutex_;
  std::condition_variable news_;                  // of the jobs or `stopping_`
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);  // waiting
  size_t n_bytes_ ABSL_GUARDED_BY(mutex_) = 0;    // of these
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace trireme
