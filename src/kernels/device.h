// Memory: a move-only owner, and an arena for the step's temporaries.
#pragma once

#include <cstddef>
#include <utility>

#include "kernels/tensor.h"

namespace trireme {

// Owns device memory. Made by Ops::Allocate, which supplies how to free it.
class Buffer {
 public:
  using Free = void (*)(void* data, size_t bytes);

  Buffer() = default;
  Buffer(void* data, size_t bytes, Free free) : data_(data), bytes_(bytes), free_(free) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(free_, other.free_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) free_(data_, bytes_);
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Free free_ = nullptr;
};

// Hands out 64-byte aligned pieces of one buffer; Reset() takes them all back. Sized at start for
// the largest step, so that a step allocates nothing: running out is our bug.
class Arena {
 public:
  static constexpr size_t kAlignment = 64;
  static constexpr size_t Aligned(size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  Arena() = default;
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  Tensor New(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor tensor(buffer_.data() + used_, dtype, shape);
    used_ += Aligned(tensor.bytes());
    CHECK_LE(used_, buffer_.bytes()) << "the step's arena is too small";
    high_water_ = used_ > high_water_ ? used_ : high_water_;
    return tensor;
  }
  void Reset() { used_ = 0; }

  // A mark to come back to: what was handed out after it is taken back.
  size_t Mark() const { return used_; }
  void ResetTo(size_t mark) { used_ = mark; }

  size_t high_water() const { return high_water_; }

 private:
  Buffer buffer_;
  size_t used_ = 0;
  size_t high_water_ = 0;
};

}  // namespace trireme
