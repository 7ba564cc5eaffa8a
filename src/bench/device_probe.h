// What a device gives at best, the ceilings that its work is held against, and how long work takes
// there.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/cuda/probe.h"
#include "kernels/ops.h"

namespace trireme {

// Something that is measured by doing it several times.
struct TimedWork {
  std::string key;                // its own
  std::function<void(int)> call;  // the i-th time: on other memory than the one before
  bool replays = true;            // as Ops::Replay wants it
  int n_calls = 0;                // of one measurement, chosen in the first
};

class DeviceProbe {
 public:
  virtual ~DeviceProbe() = default;

  // Of memory: bytes per second. Of the multipliers: FLOP per second (a multiply-add is two).
  virtual double Bandwidth() = 0;
  virtual double Rate() = 0;
  // How the two are measured: "read" and "FMA", "copy" and "matmul".
  virtual std::string bandwidth_name() const = 0;
  virtual std::string rate_name() const = 0;

  // Seconds of one call, the device's alone.
  virtual double SecondsPerCall(TimedWork& work) = 0;

  // Random values in (-1, 1).
  virtual void FillRandom(Tensor t) = 0;

  // Where the device is CUDA's; null elsewhere.
  virtual CudaProbe* cuda() { return nullptr; }
};

struct CpuProbeOptions {
  int n_threads = 1;
  bool avx512 = true;
  size_t bytes = size_t{384} << 20;  // read in turn, that no cache holds
  size_t bytes_at_once = size_t{96} << 20;
  double seconds =
      0;  // how long the bandwidth is measured, at least once; a shared memory has bursts
};
std::unique_ptr<DeviceProbe> MakeCpuProbe(const CpuProbeOptions& options);

// `quick`: small, to try it out; nothing is said of the device then.
std::unique_ptr<DeviceProbe> MakeCudaDeviceProbe(Ops& ops, bool quick);

}  // namespace trireme
