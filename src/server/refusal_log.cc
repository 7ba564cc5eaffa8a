#include "server/refusal_log.h"

#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace trireme {

void RefusalLog::Note(std::string_view peer, const absl::Status& why) {
  std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) {
    ++n_untold_;
    return;
  }
  next_ = now + interval_;
  const int64_t untold = std::exchange(n_untold_, 0);
  spdlog::warn("{} is refused: {}{}", peer, Message(why),
               untold == 0 ? "" : StrCat("; so were ", untold, " others since the last such line"));
}

}  // namespace trireme
