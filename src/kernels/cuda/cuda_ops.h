// The CUDA backend: one device, one stream. Verbs are enqueued and return; those that give the host
// something wait for it.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "kernels/ops.h"

namespace trireme {

struct CudaOptions {
  int device = 0;
  bool exact = false;  // the same bits for a row, whatever its batch, chunks and layout are
  // The largest step: memory is sized for it, so that a step allocates nothing.
  int64_t max_tokens = 512;
  int64_t max_rows = 64;      // of logits, and sequences
  int64_t max_kv_len = 0;     // the longest sequence
  int n_loading_threads = 4;  // that read and convert weights
  // The longest that the host waits for the device; collectives may be given longer.
  std::chrono::milliseconds timeout{30000};
};

// Ends the process where the device fails later; `line` names the call and the error.
using CudaFaultHandler = void (*)(const std::string& line);

// The head sizes that there are kernels for.
inline constexpr int64_t kCudaLeastHead = 8, kCudaMostHead = 256;
constexpr bool HasCudaHead(int64_t d) {
  return d % 2 == 0 && kCudaLeastHead <= d && d <= kCudaMostHead;
}

// True if this build has CUDA.
bool HasCuda();
// Devices that this process may use. FAILED_PRECONDITION where there is no driver or no device,
// UNIMPLEMENTED where the build has no CUDA.
absl::StatusOr<int> CudaDevices();
// "NVIDIA H200 (sm_90)".
std::string CudaDeviceName(int device);

// Device memory that is free on the current device.
int64_t CudaFreeBytes();

// NOT_FOUND if there is no such device.
absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(const CudaOptions& options,
                                                 CudaFaultHandler on_fault);

}  // namespace trireme
