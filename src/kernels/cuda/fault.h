// CUDA errors. A device that fails mid-step cannot be waited for or repaired: the process ends with
// one line, and the replica with it.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace trireme::cuda {

// Told of a fault before the process ends: it may end the whole job, naming rank and host.
using FaultHandler = void (*)(const std::string& line);
void SetFaultHandler(FaultHandler handler);

// Ends the process with one line; of a CUDA error, "CUDA: WHAT: error".
[[noreturn]] void Fault(const std::string& line);
[[noreturn]] void Fault(cudaError_t error, const char* what);

inline void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) Fault(error, what);
}

}  // namespace trireme::cuda
