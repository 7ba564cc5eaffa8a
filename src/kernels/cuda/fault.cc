#include "kernels/cuda/fault.h"

#include <cstdio>
#include <cstdlib>

namespace trireme::cuda {
namespace {

FaultHandler handler = nullptr;

}  // namespace

void SetFaultHandler(FaultHandler to) { handler = to; }

void Fault(cudaError_t error, const char* what) {
  const std::string line = std::string("CUDA: ") + what + ": " + cudaGetErrorString(error) + " (" +
                           cudaGetErrorName(error) + ")";
  if (handler != nullptr) handler(line);
  std::fprintf(stderr, "%s\n", line.c_str());
  std::_Exit(1);
}

}  // namespace trireme::cuda
