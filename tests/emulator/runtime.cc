// The host's side of the emulated device. A stream keeps what it was given and runs it when the
// host asks for it (or another stream does, by an event): work that the host did not wait for has
// not happened, and what it reads meanwhile is old. Device memory is one mapping that the host
// cannot touch while no kernel or copy runs; it is poisoned when handed out, and under
// AddressSanitizer everything outside an allocation is out of bounds.
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

struct CUevent_st {
  CUstream_st* stream = nullptr;
  uint64_t position = 0;  // done when the stream has run this much
  std::chrono::steady_clock::time_point time;
};

struct CUstream_st {
  std::deque<trireme::emulator::Work> work;
  uint64_t n_queued = 0, n_done = 0;
  CUgraph_st* capture = nullptr;
};

struct CUgraph_st {
  std::vector<trireme::emulator::Work> work;
};
struct CUgraphExec_st {
  std::vector<trireme::emulator::Work> work;
};

namespace trireme::emulator {
namespace {

constexpr size_t kDeviceBytes = size_t{64} << 30;  // of addresses; pages come when touched
constexpr size_t kAlignment = 256;                 // of cudaMalloc
constexpr size_t kPage = 4096;
constexpr size_t kGap = 256;                  // between allocations
constexpr int kMostSharedBytes = 227 * 1024;  // of a block, sm_90

// The device's memory: a free list by address.
class DeviceMemory {
 public:
  DeviceMemory() {
    base_ = static_cast<std::byte*>(
        mmap(nullptr, kDeviceBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (base_ == MAP_FAILED) {
      std::perror("emulator: no addresses for device memory");
      std::abort();
    }
    if (const char* bytes = std::getenv("TRIREME_EMULATED_BYTES"))
      total_ = std::strtoull(bytes, nullptr, 10);
    madvise(base_, kDeviceBytes, MADV_HUGEPAGE);  // few entries to change for each access
    holes_[0] = kDeviceBytes;
  }

  void* Allocate(size_t bytes) {
    const size_t size = (bytes + kGap + kAlignment - 1) / kAlignment * kAlignment;
    if (used_ + size > total_) return nullptr;
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      const auto [at, room] = *hole;
      if (room < size) continue;
      holes_.erase(hole);
      if (room > size) holes_[at + size] = room - size;
      taken_[at] = size;
      used_ += size;
      const Access access;
      ASAN_UNPOISON_MEMORY_REGION(base_ + at, bytes);
      std::memset(base_ + at, 0xFF, bytes);  // NaN
      ASAN_POISON_MEMORY_REGION(base_ + at + bytes, size - bytes);
      return base_ + at;
    }
    return nullptr;
  }

  bool Free(void* pointer) {
    const auto taken = taken_.find(static_cast<size_t>(static_cast<std::byte*>(pointer) - base_));
    if (taken == taken_.end()) return false;
    const auto [at, size] = *taken;
    taken_.erase(taken);
    used_ -= size;
    ASAN_POISON_MEMORY_REGION(base_ + at, size);
    GiveBackPages(at, at + size);
    auto hole = holes_.emplace(at, size).first;
    if (const auto next = std::next(hole); next != holes_.end() && at + size == next->first) {
      hole->second += next->second;
      holes_.erase(next);
    }
    if (hole != holes_.begin()) {
      const auto before = std::prev(hole);
      if (before->first + before->second == hole->first) {
        before->second += hole->second;
        holes_.erase(hole);
      }
    }
    return true;
  }

  // The pages that lie wholly inside.
  void GiveBackPages(size_t begin, size_t end) {
    begin = (begin + kPage - 1) / kPage * kPage;
    end = end / kPage * kPage;
    if (begin < end) madvise(base_ + begin, end - begin, MADV_DONTNEED);
  }

  size_t free() const { return total_ - used_; }
  size_t total() const { return total_; }

  // While one lives, device memory may be touched.
  struct Access {
    Access();
    ~Access();
  };

 private:
  std::byte* base_;
  size_t total_ = size_t{8} << 30;
  size_t used_ = 0;
  std::map<size_t, size_t> holes_;  // offset -> bytes
  std::map<size_t, size_t> taken_;
  int n_accesses_ = 0;
};

DeviceMemory& Memory() {
  static DeviceMemory memory;
  return memory;
}

// Device work of one process is one at a time, as on one device with a single queue.
std::recursive_mutex device_mutex;
cudaError_t last_error = cudaSuccess;
int current_device = 0;  // of the process: its memory is that of one device
std::set<CUstream_st*> streams;

DeviceMemory::Access::Access() {
  device_mutex.lock();
  DeviceMemory& memory = Memory();
  if (memory.n_accesses_++ == 0) mprotect(memory.base_, kDeviceBytes, PROT_READ | PROT_WRITE);
}
DeviceMemory::Access::~Access() {
  DeviceMemory& memory = Memory();
  if (--memory.n_accesses_ == 0) mprotect(memory.base_, kDeviceBytes, PROT_NONE);
  device_mutex.unlock();
}

cudaError_t Error(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Lets the stream get on up to `position`; false if it must wait for something before.
bool RunUntil(CUstream_st& stream, uint64_t position) {
  const std::lock_guard lock(device_mutex);
  if (stream.n_done >= position) return true;
  const DeviceMemory::Access access;  // once for all of it
  while (stream.n_done < position) {
    if (!stream.work.front()()) return false;
    stream.work.pop_front();
    ++stream.n_done;
  }
  return true;
}

Counts counts;

void Await(CUstream_st& stream, uint64_t position) {
  ++counts.questions;
  while (!RunUntil(stream, position)) std::this_thread::sleep_for(std::chrono::microseconds(20));
}

// A question lets the stream get on by half of what is left.
bool Ask(CUstream_st& stream, uint64_t position) {
  const std::lock_guard lock(device_mutex);
  ++counts.questions;
  if (stream.n_done < position) {
    RunUntil(stream, stream.n_done + (position - stream.n_done + 1) / 2);
  }
  return stream.n_done >= position;
}

// TRIREME_EMULATED_LOSS=FILE: the device falls off when the file is there, for the process that
// takes it away.
bool Lost() {
  static const char* const file = std::getenv("TRIREME_EMULATED_LOSS");
  static bool lost = false;
  if (file != nullptr && !lost) lost = std::remove(file) == 0;
  return lost;
}

cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work) {
  return EnqueueWork(stream, [work = std::move(work)] {
    work();
    return true;
  });
}

}  // namespace

cudaError_t EnqueueWork(cudaStream_t stream, Work work) {
  if (stream == nullptr) return Error(cudaErrorInvalidValue);  // the default stream is not used
  if (Lost()) return Error(cudaErrorIllegalAddress);
  const std::lock_guard lock(device_mutex);
  if (stream->capture != nullptr) {
    stream->capture->work.push_back(std::move(work));
  } else {
    stream->work.push_back(std::move(work));
    ++stream->n_queued;
  }
  return cudaSuccess;
}

void SetSelfRunning(bool on) {
  static int n = 0;
  static std::atomic<bool> running;
  static std::thread thread;
  n += on ? 1 : -1;
  if (on && n == 1) {
    running = true;
    thread = std::thread([] {
      while (running) {
        bool waits = true;
        {
          const std::lock_guard lock(device_mutex);
          for (CUstream_st* stream : streams) {
            if (stream->n_done < stream->n_queued && RunUntil(*stream, stream->n_done + 1)) {
              waits = false;
            }
          }
        }
        if (waits) std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
  } else if (n == 0) {
    running = false;
    thread.join();
  }
}

cudaError_t LaunchKernel(const char* kernel, Dim3 grid, Dim3 block, size_t shared_bytes,
                         cudaStream_t stream, std::function<void()> body) {
  if (grid.count() == 0 || grid.y > 65535 || grid.z > 65535 || block.count() == 0 ||
      block.count() > 1024 || block.z > 64 || shared_bytes > kMostSharedBytes) {
    return Error(cudaErrorInvalidValue);
  }
  return Enqueue(stream, [=, body = std::move(body)] {
    const DeviceMemory::Access access;
    RunGrid(kernel, grid, block, shared_bytes, body);
  });
}

Counts CountsSoFar() {
  const std::lock_guard lock(device_mutex);
  return counts;
}

}  // namespace trireme::emulator

using namespace trireme::emulator;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
  }
  return "unknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  const char* devices = std::getenv("TRIREME_EMULATED_DEVICES");
  *count = devices == nullptr ? 1 : std::atoi(devices);
  return *count > 0 ? cudaSuccess : Error(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return cudaErrorNoDevice;
  if (device < 0 || device >= count) return Error(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int device) {
  std::snprintf(id, static_cast<size_t>(bytes), "0000:%02x:00.0", device);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kMostSharedBytes;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = 2;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
  }
  return Error(cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || device < 0 || device >= count)
    return Error(cudaErrorInvalidDevice);
  *properties = {"emulated", Memory().total(), 9, 0, 2};
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const std::lock_guard lock(device_mutex);
  ++counts.allocations;
  *pointer = Memory().Allocate(bytes);
  return *pointer != nullptr ? cudaSuccess : Error(cudaErrorMemoryAllocation);
}
cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(device_mutex);
  for (CUstream_st* stream : streams) {
    if (stream->capture != nullptr) return Error(cudaErrorStreamCaptureUnsupported);
    Await(*stream, stream->n_queued);
  }
  return cudaSuccess;
}
// Waits for the device, as the real one does.
cudaError_t cudaFree(void* pointer) {
  const std::lock_guard lock(device_mutex);
  ++counts.allocations;
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) return error;
  return pointer == nullptr || Memory().Free(pointer) ? cudaSuccess : Error(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  *pointer = std::malloc(bytes);
  return *pointer != nullptr ? cudaSuccess : Error(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard lock(device_mutex);
  *free = Memory().free();
  *total = Memory().total();
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const std::lock_guard lock(device_mutex);
  *stream = new CUstream_st;
  streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr || stream->capture != nullptr)
    return Error(cudaErrorStreamCaptureUnsupported);
  Await(*stream, stream->n_queued);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(device_mutex);
  Await(*stream, stream->n_queued);
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (Lost()) return Error(cudaErrorIllegalAddress);
  return Ask(*stream, stream->n_queued) ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  CUstream_st* other = event->stream;
  if (other == nullptr) return cudaSuccess;
  return EnqueueWork(stream,
                     [other, position = event->position] { return RunUntil(*other, position); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return Enqueue(stream, [=] {
    const DeviceMemory::Access access;
    if (bytes > 0) std::memmove(to, from, bytes);
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return Enqueue(stream, [=] {
    const DeviceMemory::Access access;
    if (bytes > 0) std::memset(to, value, bytes);
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const cudaError_t error =
      Enqueue(stream, [event] { event->time = std::chrono::steady_clock::now(); });
  event->stream = stream;
  event->position = stream->n_queued;
  return error;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->stream != nullptr) Await(*event->stream, event->position);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->stream == nullptr) return cudaSuccess;
  if (Lost()) return Error(cudaErrorIllegalAddress);
  return Ask(*event->stream, event->position) ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  *ms = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->capture = new CUgraph_st;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->capture, nullptr);
  return *graph != nullptr ? cudaSuccess : Error(cudaErrorInvalidValue);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  ++counts.graphs_made;
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  ++counts.graphs_launched;
  cudaError_t error = cudaSuccess;
  for (const Work& work : exec->work) {
    if (error == cudaSuccess) error = EnqueueWork(stream, work);
  }
  return error;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
