// Arrays on the device: a copy of a host Array, and back.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/device_wait.h"
#include "kernels/cuda/fault.h"
#include "tests/kernels/ops_test_util.h"
#if __has_include("emulator/block.h")
#include "emulator/block.h"
#endif

namespace trireme::cuda {

// The stream of all tests of a process.
inline DeviceWait& TestWait() {
  static DeviceWait wait(std::chrono::seconds(30));
  return wait;
}
inline cudaStream_t TestStream() { return TestWait().stream(); }

// Another order of threads and blocks, where the device is emulated.
inline void OrderThreads([[maybe_unused]] uint64_t seed) {
#if __has_include("emulator/block.h")
  emulator::SetSeed(seed);
#endif
}

// A tensor in device memory, with exactly its bytes; contents poisoned where nothing was uploaded.
class DeviceArray {
 public:
  DeviceArray(DType dtype, std::initializer_list<int64_t> shape) {
    const Tensor shaped(nullptr, dtype, shape);
    void* memory = nullptr;
    Check(cudaMalloc(&memory, std::max<size_t>(shaped.bytes(), 1)), "cudaMalloc");
    memory_ = std::shared_ptr<void>(memory, [](void* p) {
      cudaStreamSynchronize(TestStream());
      cudaFree(p);
    });
    tensor_ = Tensor(memory, dtype, shape);
  }
  const Tensor& operator*() const { return tensor_; }
  const Tensor* operator->() const { return &tensor_; }
  operator Tensor() const { return tensor_; }

  friend DeviceArray Upload(const Array& from) {
    DeviceArray to(from->dtype(), {from->size()});
    to.tensor_ = Shaped(to.tensor_.raw(), from);
    Check(cudaMemcpyAsync(to->raw(), from->raw(), from->bytes(), cudaMemcpyHostToDevice,
                          TestStream()),
          "cudaMemcpyAsync");
    Check(cudaStreamSynchronize(TestStream()), "cudaStreamSynchronize");
    return to;
  }
  friend Array Download(const DeviceArray& from) {
    Array to(from->dtype(), {from->size()});
    Check(cudaMemcpyAsync(to->raw(), from->raw(), from->bytes(), cudaMemcpyDeviceToHost,
                          TestStream()),
          "cudaMemcpyAsync");
    Check(cudaStreamSynchronize(TestStream()), "cudaStreamSynchronize");
    return to;
  }

 private:
  static Tensor Shaped(void* memory, const Tensor& like) {
    const DType type = like.dtype();
    switch (like.rank()) {
      case 1:
        return Tensor(memory, type, {like.dim(0)});
      case 2:
        return Tensor(memory, type, {like.dim(0), like.dim(1)});
      case 3:
        return Tensor(memory, type, {like.dim(0), like.dim(1), like.dim(2)});
      default:
        return Tensor(memory, type, {like.dim(0), like.dim(1), like.dim(2), like.dim(3)});
    }
  }

  std::shared_ptr<void> memory_;
  Tensor tensor_;
};
DeviceArray Upload(const Array& from);
Array Download(const DeviceArray& from);

}  // namespace trireme::cuda
