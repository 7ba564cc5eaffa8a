// PinnedRing: host memory by which small arrays reach the device without a wait. Two halves: one is
// filled while the copies from the other are under way.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstring>

#include "kernels/cuda/device_wait.h"
#include "kernels/cuda/fault.h"
#include "kernels/cuda/memory.h"

namespace trireme::cuda {

class PinnedRing {
 public:
  PinnedRing(DeviceWait& wait, size_t half_bytes)
      : wait_(wait), half_bytes_(half_bytes), memory_(AllocatePinned(2 * half_bytes)) {
    for (cudaEvent_t& event : copied_) {
      Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
  }
  ~PinnedRing() {
    for (cudaEvent_t event : copied_) cudaEventDestroy(event);
  }
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;

  // Enqueues the copy; `from` may change when this returns.
  void CopyToDevice(void* to, const void* from, size_t bytes) {
    while (bytes > 0) {
      if (used_ == half_bytes_) Turn();
      const size_t n = bytes < half_bytes_ - used_ ? bytes : half_bytes_ - used_;
      std::byte* staged = memory_.data() + static_cast<size_t>(half_) * half_bytes_ + used_;
      std::memcpy(staged, from, n);
      Check(cudaMemcpyAsync(to, staged, n, cudaMemcpyHostToDevice, wait_.stream()),
            "cudaMemcpyAsync");
      used_ += n;
      bytes -= n;
      to = static_cast<std::byte*>(to) + n;
      from = static_cast<const std::byte*>(from) + n;
    }
  }

 private:
  void Turn() {
    Check(cudaEventRecord(copied_[static_cast<size_t>(half_)], wait_.stream()), "cudaEventRecord");
    half_ = 1 - half_;
    used_ = 0;
    wait_.Await(copied_[static_cast<size_t>(half_)], "a copy to the device");
  }

  DeviceWait& wait_;
  size_t half_bytes_;
  Buffer memory_;
  std::array<cudaEvent_t, 2> copied_ = {};
  int half_ = 0;
  size_t used_ = 0;
};

}  // namespace trireme::cuda
