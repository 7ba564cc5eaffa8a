// When somebody who was refused may ask again, over whatever he asked.
#pragma once

#include <chrono>
#include <optional>

#include "absl/status/status.h"

namespace trireme {

// Nothing: the same would be refused again.
inline std::optional<std::chrono::seconds> RetryAfter(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
      return std::chrono::seconds(1);
    default:
      return std::nullopt;
  }
}

}  // namespace trireme
