#include "kernels/cuda/memory.h"

#include <algorithm>
#include <string>

#include "kernels/cuda/fault.h"

namespace trireme::cuda {
namespace {

void CheckAllocated(cudaError_t error, size_t bytes, const char* call) {
  if (error != cudaSuccess)
    Fault(error, (std::string(call) + " of " + std::to_string(bytes) + " bytes").c_str());
}

}  // namespace

Buffer AllocateDevice(size_t bytes) {
  void* data = nullptr;
  CheckAllocated(cudaMalloc(&data, std::max<size_t>(bytes, 1)), bytes, "cudaMalloc");
  return Buffer(data, bytes, [](void* memory, size_t) { Check(cudaFree(memory), "cudaFree"); });
}

Buffer AllocatePinned(size_t bytes) {
  void* data = nullptr;
  CheckAllocated(cudaMallocHost(&data, std::max<size_t>(bytes, 1)), bytes, "cudaMallocHost");
  return Buffer(data, bytes,
                [](void* memory, size_t) { Check(cudaFreeHost(memory), "cudaFreeHost"); });
}

}  // namespace trireme::cuda
