#include "runtime/device.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <utility>

namespace trireme {
namespace {

// Names the arithmetic of the kernels: a change of any bit changes it.
constexpr char kCpuArithmetic[] = "cpu-1";
constexpr char kCudaArithmetic[] = "cuda-1";
constexpr char kCudaExactArithmetic[] = "cuda-exact-1";
constexpr int64_t kLargestDefaultKvBytes = int64_t{8} << 30;

std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) cpus.push_back(i);
  }
  return cpus;
}

// What is left of a container's limit (cgroup v2); the largest number where there is none. Pages of
// files, such as the checkpoint just read, count as used there but give way.
int64_t CgroupMemory() {
  const std::string folder = "/sys/fs/cgroup/";
  int64_t limit = 0, used = 0;
  std::ifstream max(folder + "memory.max"), current(folder + "memory.current");
  if (!(max >> limit) || !(current >> used)) return INT64_MAX;
  std::ifstream stat(folder + "memory.stat");
  int64_t bytes = 0;
  for (std::string key; stat >> key >> bytes;) {
    if (key == "active_file" || key == "inactive_file") used -= bytes;
  }
  return std::max<int64_t>(limit - std::max<int64_t>(used, 0), 0);
}

int64_t AvailableMemory() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, unit; meminfo >> key;) {
    int64_t kib = 0;
    if (!(meminfo >> kib)) meminfo.clear();
    std::getline(meminfo, unit);
    if (key == "MemAvailable:") return std::min(kib * 1024, CgroupMemory());
  }
  return 0;
}

}  // namespace

CpuOptions ShareOfCpus(World& world, int n_threads) {
  const std::vector<int> cpus = AllowedCpus();
  const std::vector<std::string> all = world.Exchange(StrCat(world.host(), " ", Join(cpus, ",")));
  const auto self = all.begin() + world.rank();
  const auto sharers = static_cast<int>(std::count(all.begin(), all.end(), *self));
  const auto place = static_cast<int>(std::count(all.begin(), self, *self));
  const int n_cpus = static_cast<int>(cpus.size());
  CpuOptions share{.n_threads = n_threads};
  if (share.n_threads == 0) share.n_threads = std::max(1, n_cpus / sharers);
  if (share.n_threads * sharers <= n_cpus) {
    const int first = share.n_threads * place;
    share.cpus.assign(cpus.begin() + first, cpus.begin() + first + share.n_threads);
  }
  return share;
}

absl::StatusOr<DeviceKind> Device::Choose(DeviceKind kind) {
  if (kind == DeviceKind::kCpu) return kind;
  const absl::Status status = CudaDevices().status();
  if (status.ok()) return DeviceKind::kCuda;
  if (kind == DeviceKind::kAuto) return DeviceKind::kCpu;
  return absl::Status(status.code(), StrCat("--device cuda: ", Message(status)));
}

absl::StatusOr<Device> Device::Open(DeviceKind kind, const CpuOptions& cpu, CudaOptions cuda,
                                    int local_rank) {
  ASSIGN_OR_RETURN(kind, Choose(kind));
  Device device;
  // The pool pins its caller, which may be the parent of threads that are to be free.
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof(allowed), &allowed);
  ASSIGN_OR_RETURN(device.host_, MakeCpuOps(cpu));
  sched_setaffinity(0, sizeof(allowed), &allowed);
  device.name_ = StrCat("cpu ", CpuTargetName(cpu.avx512));
  device.arithmetic_ = kCpuArithmetic;
  if (kind == DeviceKind::kCpu) return device;

  ASSIGN_OR_RETURN(device.n_devices_, CudaDevices());
  cuda.device = local_rank % device.n_devices_;
  ASSIGN_OR_RETURN(device.cuda_, MakeCudaOps(cuda, [](const std::string& line) { EndJob(line); }));
  device.name_ = StrCat("cuda ", CudaDeviceName(cuda.device));
  device.arithmetic_ = cuda.exact ? kCudaExactArithmetic : kCudaArithmetic;
  return device;
}

int64_t Device::FreeCudaBytes(int ranks_here) const {
  const int sharers = (ranks_here + n_devices_ - 1) / n_devices_;
  return CudaFreeBytes() / sharers;
}

int64_t Device::KvBytes(int ranks_here, double utilization) const {
  if (cuda_ == nullptr) return std::min(AvailableMemory() / 2 / ranks_here, kLargestDefaultKvBytes);
  return static_cast<int64_t>(utilization * static_cast<double>(FreeCudaBytes(ranks_here)));
}

}  // namespace trireme
