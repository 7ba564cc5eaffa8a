#include "kernels/cuda/fault.h"

#include <cstdio>
#include <cstdlib>

namespace trireme::cuda {
namespace {

FaultHandler handler = nullptr;

}  // namespace

void SetFaultHandler(FaultHandler to) { handler = to; }

void Fault(const std::string& line) {
  if (handler != nullptr) handler(line);
  std::fprintf(stderr, "%s\n", line.c_str());
  std::_Exit(1);
}

void Fault(cudaError_t error, const char* what) {
  Fault(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error) + " (" +
        cudaGetErrorName(error) + ")");
}

}  // namespace trireme::cuda
