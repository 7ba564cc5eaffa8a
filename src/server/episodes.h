// What is told of once, however often it happens.
#pragma once

#include <chrono>
#include <utility>

namespace trireme {

// Tells the first of many events, which come less than ten seconds apart.
class Episodes {
 public:
  bool Begins() {
    const Clock::time_point now = Clock::now();
    return std::exchange(last_, now) < now - std::chrono::seconds(10);
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::time_point::min();
};

}  // namespace trireme
