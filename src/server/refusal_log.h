// Who was refused for want of a key: a line of the log, and not many of them.
#pragma once

#include <chrono>
#include <mutex>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

namespace trireme {

// Thread-safe.
class RefusalLog {
 public:
  explicit RefusalLog(std::chrono::milliseconds interval = std::chrono::seconds(10))
      : interval_(interval) {}

  // A warning, unless there was one within the interval; the next one then says how many it stands
  // for. `why` holds no key.
  void Note(std::string_view peer, const absl::Status& why);

 private:
  const std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point next_ ABSL_GUARDED_BY(mutex_);
  int64_t n_untold_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace trireme
