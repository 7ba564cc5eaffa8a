// Host memory of the CPU backend.
#pragma once

#include "kernels/device.h"

namespace trireme::cpu {

// Zeroed, 64-byte aligned; big ones are mapped, in huge pages where the system grants them. Throws
// std::bad_alloc.
Buffer AllocateZeroed(size_t bytes);

// Memory that a verb reuses from call to call; grows when a larger shape appears.
class Scratch {
 public:
  template <typename T>
  T* Get(int64_t n) {
    const size_t bytes = static_cast<size_t>(n) * sizeof(T);
    if (bytes > buffer_.bytes()) buffer_ = AllocateZeroed(bytes);
    return reinterpret_cast<T*>(buffer_.data());
  }

 private:
  Buffer buffer_;
};

}  // namespace trireme::cpu
