// The device that a rank computes on, and the CPU's verbs beside it.
#pragma once

#include <memory>
#include <string>

#include "comm/world.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/cuda_ops.h"

namespace trireme {

// This rank's share of the CPUs that it may run on. Ranks of a host that may run on the same ones
// divide them; srun and mpirun may have given each its own. `n_threads`: 0 for as many as there
// are. Not pinned where the ranks want more than there are. Collective.
CpuOptions ShareOfCpus(World& world, int n_threads);

enum class DeviceKind { kAuto, kCpu, kCuda };  // auto: CUDA where there is a device, else the CPU
// How tensors of CUDA devices move between ranks: by NCCL, or by way of the host. auto: NCCL where
// it can.
enum class CommKind { kAuto, kNccl, kStaged };

class Device {
 public:
  // kCpu or kCuda for any kind. FAILED_PRECONDITION or UNIMPLEMENTED where CUDA was asked for and
  // cannot be had.
  static absl::StatusOr<DeviceKind> Choose(DeviceKind kind);

  // `local_rank` chooses among the host's devices; ranks beyond their number share them. A fault of
  // the device ends the job with one line. Errors are Choose's.
  static absl::StatusOr<Device> Open(DeviceKind kind, const CpuOptions& cpu, CudaOptions cuda,
                                     int local_rank);

  Ops& ops() const { return cuda_ ? *cuda_ : *host_; }
  Ops& host() const { return *host_; }
  const std::string& name() const { return name_; }  // "cpu AVX-512", "cuda NVIDIA H200 (sm_90)"
  // What tells results apart: devices that give the same bits have the same.
  const std::string& arithmetic() const { return arithmetic_; }

  bool is_cuda() const { return cuda_ != nullptr; }
  // A rank's share of the device memory that is free. `ranks_here`: of this host.
  int64_t FreeCudaBytes(int ranks_here) const;
  // What a rank may take for its KV cache by default, when its weights are loaded: a share of the
  // memory that is free, on a GPU `utilization` of it.
  int64_t KvBytes(int ranks_here, double utilization) const;

 private:
  std::unique_ptr<Ops> host_, cuda_;
  std::string name_, arithmetic_;
  int n_devices_ = 1;
};

}  // namespace trireme
