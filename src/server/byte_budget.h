// Bytes that many may take together.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace trireme {

// Thread-safe.
class ByteBudget {
 public:
  explicit ByteBudget(size_t max_bytes) : max_bytes_(max_bytes) {}

  // False, and nothing is taken, if there are not so many left.
  bool Take(size_t n_bytes) {
    size_t taken = taken_;
    do {
      if (n_bytes > max_bytes_ - taken) return false;
    } while (!taken_.compare_exchange_weak(taken, taken + n_bytes));
    return true;
  }
  void Give(size_t n_bytes) { taken_ -= n_bytes; }

  size_t left() const { return max_bytes_ - taken_; }
  size_t max_bytes() const { return max_bytes_; }

 private:
  const size_t max_bytes_;
  std::atomic<size_t> taken_ = 0;
};

// What one has taken, given back with its end.
class ByteShare {
 public:
  explicit ByteShare(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}
  ~ByteShare() { budget_->Give(n_bytes_); }
  ByteShare(const ByteShare&) = delete;
  ByteShare& operator=(const ByteShare&) = delete;

  // False, and it stays as it was, if there are not so many more left.
  bool Resize(size_t n_bytes) {
    if (n_bytes > n_bytes_ && !budget_->Take(n_bytes - n_bytes_)) return false;
    if (n_bytes < n_bytes_) budget_->Give(n_bytes_ - n_bytes);
    n_bytes_ = n_bytes;
    return true;
  }

  size_t n_bytes() const { return n_bytes_; }

 private:
  const std::shared_ptr<ByteBudget> budget_;
  size_t n_bytes_ = 0;
};

}  // namespace trireme
