// What a build without CUDA has in place of the backend.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/probe.h"

namespace trireme {

bool HasCuda() { return false; }

absl::StatusOr<int> CudaDevices() {
  return Unimplemented("this build has no CUDA: use --device cpu, or a build made by `make cuda`");
}

std::string CudaDeviceName(int) { return ""; }
int64_t CudaFreeBytes() { return 0; }

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(const CudaOptions&, CudaFaultHandler) {
  return CudaDevices().status();
}

std::unique_ptr<CudaProbe> MakeCudaProbe(Ops&, const CudaProbeOptions&) { return nullptr; }

}  // namespace trireme
