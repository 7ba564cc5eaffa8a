// The emulated device does what a device does, and notices what a device would not forgive.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace trireme::emulator {
namespace {

// A stream, and device memory for 32-bit words, freed at the end.
class EmulatorTest : public testing::Test {
 protected:
  EmulatorTest() { cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); }
  ~EmulatorTest() override {
    cudaStreamDestroy(stream_);
    for (void* memory : memory_) cudaFree(memory);
  }

  template <typename T>
  T* New(size_t n) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, n * sizeof(T)), cudaSuccess);
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }
  template <typename T>
  std::vector<T> Read(const T* from, size_t n) {
    std::vector<T> values(n);
    cudaMemcpyAsync(values.data(), from, n * sizeof(T), cudaMemcpyDeviceToHost, stream_);
    cudaStreamSynchronize(stream_);
    return values;
  }
  template <typename F>
  void Run(Dim3 grid, Dim3 block, size_t shared_bytes, const F& body) {
    EXPECT_EQ(LaunchKernel("Kernel", grid, block, shared_bytes, stream_, body), cudaSuccess);
  }
  template <typename F>
  void RunAndWait(Dim3 block, const F& body) {
    Run({1, 1, 1}, block, 256, body);
    cudaStreamSynchronize(stream_);
  }

  cudaStream_t stream_ = nullptr;
  std::vector<void*> memory_;
};
using EmulatorDeathTest = EmulatorTest;

TEST_F(EmulatorTest, EveryThreadOfEveryBlockRunsOnce) {
  auto* count = New<int>(3 * 2 * 2 * 10 * 3);
  cudaMemsetAsync(count, 0, 3 * 2 * 2 * 30 * sizeof(int), stream_);
  Run({3, 2, 2}, {10, 3, 1}, 0, [=] {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    count[block * 30 + threadIdx.y * blockDim.x + threadIdx.x] += 1;
  });
  EXPECT_EQ(Read(count, 360), std::vector<int>(360, 1));
}

TEST_F(EmulatorTest, ABarrierSeparatesWhatIsWrittenFromWhatIsRead) {
  auto* sums = New<int>(2);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SetSeed(seed);
    Run({2, 1, 1}, {100, 1, 1}, 100 * sizeof(int), [=] {
      int* shared = reinterpret_cast<int*>(SharedMemory());
      shared[threadIdx.x] = static_cast<int>(threadIdx.x);
      __syncthreads();
      if (threadIdx.x == 0) {
        sums[blockIdx.x] = 0;
        for (int i = 0; i < 100; ++i) sums[blockIdx.x] += shared[i];
      }
    });
    EXPECT_EQ(Read(sums, 2), std::vector<int>(2, 4950));
  }
}

// Without the barrier the sum depends on the order, which the seed chooses.
TEST_F(EmulatorTest, AMissingBarrierShows) {
  auto* sum = New<int>(1);
  std::set<int> sums;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SetSeed(seed);
    Run({1, 1, 1}, {64, 1, 1}, 64 * sizeof(int), [=] {
      int* shared = reinterpret_cast<int*>(SharedMemory());
      shared[threadIdx.x] = 1;
      if (threadIdx.x == 0) {
        *sum = 0;
        for (int i = 0; i < 64; ++i) *sum += shared[i];
      }
    });
    sums.insert(Read(sum, 1)[0]);
  }
  EXPECT_GT(sums.size(), 5u);
}

// One warp reads its sum, goes on and writes the next before the others have read theirs.
TEST_F(EmulatorTest, AWarpRunsAheadToTheNextBarrier) {
  auto* wrong = New<int>(1);
  int n_seen = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SetSeed(seed);
    cudaMemsetAsync(wrong, 0, sizeof(int), stream_);
    Run({1, 1, 1}, {256, 1, 1}, 8 * sizeof(int), [=] {
      int* shared = reinterpret_cast<int*>(SharedMemory());
      const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
      for (int round = 1; round <= 2; ++round) {
        if (lane == 0) shared[warp] = round;
        __syncthreads();
        int found = lane < 8 ? shared[lane] : round;
        for (int distance = 16; distance > 0; distance /= 2)
          found = std::max(found, __shfl_xor_sync(0xffffffffu, found, distance));
        if (found != round) *wrong = 1;  // a barrier before the next round is missing
      }
    });
    n_seen += Read(wrong, 1)[0];
  }
  EXPECT_GE(n_seen, 5);
}

TEST_F(EmulatorTest, LanesExchangeValues) {
  auto* out = New<int>(4 * 32);
  Run({1, 1, 1}, {32, 1, 1}, 0, [=] {
    const int lane = static_cast<int>(threadIdx.x);
    out[lane] = __shfl_sync(0xffffffffu, lane * 10, lane + 1, 8);
    out[32 + lane] = __shfl_xor_sync(0xffffffffu, lane, 16);
    out[64 + lane] = __shfl_down_sync(0xffffffffu, lane, 4);
    out[96 + lane] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 2));
  });
  const std::vector<int> values = Read(out, 128);
  for (int lane = 0; lane < 32; ++lane) {
    const auto i = static_cast<size_t>(lane);
    EXPECT_EQ(values[i], (lane / 8 * 8 + (lane + 1) % 8) * 10) << lane;
    EXPECT_EQ(values[32 + i], lane ^ 16) << lane;
    EXPECT_EQ(values[64 + i], lane < 28 ? lane + 4 : lane) << lane;
    EXPECT_EQ(static_cast<unsigned>(values[96 + i]), 0xaaaaaaaau) << lane;
  }
}

TEST_F(EmulatorTest, HalvesOfAWarpMeetByThemselves) {
  auto* out = New<int>(32);
  Run({1, 1, 1}, {32, 1, 1}, 0, [=] {
    const int lane = static_cast<int>(threadIdx.x);
    const unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    int sum = lane;
    for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(mask, sum, distance);
    out[lane] = sum;
  });
  const std::vector<int> values = Read(out, 32);
  EXPECT_EQ(values[3], 120);
  EXPECT_EQ(values[20], 376);
}

TEST_F(EmulatorTest, CopiesLandWhenTheyAreWaitedFor) {
  auto* out = New<int>(3);
  auto* in = New<int>(2);
  const std::vector<int> values = {7, 8};
  cudaMemcpyAsync(in, values.data(), 8, cudaMemcpyHostToDevice, stream_);
  Run({1, 1, 1}, {1, 1, 1}, 8, [=] {
    int* shared = reinterpret_cast<int*>(SharedMemory());
    CopyLater(shared, in, 4);
    CommitCopies();
    CopyLater(shared + 1, in + 1, 4);
    CommitCopies();
    WaitForCopies(1);
    out[0] = shared[0];
    out[1] = shared[1];
    WaitForCopies(0);
    out[2] = shared[1];
  });
  EXPECT_EQ(Read(out, 3), (std::vector<int>{7, -1, 8}));  // memory starts as 0xFF
}

TEST_F(EmulatorTest, AStreamRunsWhenItIsWaitedFor) {
  auto* memory = New<int>(1);
  int host = 1;
  cudaMemcpyAsync(memory, &host, 4, cudaMemcpyHostToDevice, stream_);
  host = 2;  // too early: the copy has not been
  EXPECT_EQ(Read(memory, 1)[0], 2);
}

TEST_F(EmulatorTest, FreeingMemoryWaitsForTheDevice) {
  void* memory = nullptr;
  cudaMalloc(&memory, 4);
  auto* seen = New<int>(1);
  cudaMemsetAsync(memory, 5, 4, stream_);
  cudaMemcpyAsync(seen, memory, 4, cudaMemcpyDeviceToDevice, stream_);
  cudaFree(memory);
  EXPECT_EQ(Read(seen, 1)[0], 0x05050505);
}

TEST_F(EmulatorTest, AnEventOrdersStreams) {
  auto* memory = New<int>(1);
  cudaStream_t other;
  cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  cudaEvent_t event;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  cudaMemsetAsync(memory, 1, 4, stream_);
  cudaEventRecord(event, stream_);
  cudaMemsetAsync(memory, 3, 4, stream_);  // after the event
  cudaStreamWaitEvent(other, event);
  int seen = 0;
  cudaMemcpyAsync(&seen, memory, 4, cudaMemcpyDeviceToHost, other);
  cudaStreamSynchronize(other);
  EXPECT_EQ(seen, 0x01010101);
  EXPECT_EQ(Read(memory, 1)[0], 0x03030303);
  cudaEventDestroy(event);
  cudaStreamDestroy(other);
}

TEST_F(EmulatorTest, AGraphRepeatsWhatWasCaptured) {
  auto* count = New<int>(1);
  cudaMemsetAsync(count, 0, 4, stream_);
  cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
  Run({1, 1, 1}, {1, 1, 1}, 0, [=] { *count += 1; });
  cudaGraph_t graph;
  cudaStreamEndCapture(stream_, &graph);
  cudaGraphExec_t exec;
  cudaGraphInstantiate(&exec, graph);
  cudaGraphDestroy(graph);
  EXPECT_EQ(Read(count, 1)[0], 0);
  for (int i = 0; i < 3; ++i) cudaGraphLaunch(exec, stream_);
  EXPECT_EQ(Read(count, 1)[0], 3);
  cudaGraphExecDestroy(exec);
}

TEST_F(EmulatorTest, MemoryIsPoisonedAndReused) {
  size_t free_before = 0, free_after = 0, total = 0;
  cudaMemGetInfo(&free_before, &total);
  for (int i = 0; i < 3; ++i) {
    void* memory = nullptr;
    ASSERT_EQ(cudaMalloc(&memory, 1000), cudaSuccess);
    EXPECT_EQ(Read(static_cast<int*>(memory), 250), std::vector<int>(250, -1));
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
    EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  }
  cudaMemGetInfo(&free_after, &total);
  EXPECT_EQ(free_before, free_after);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, total + 1), cudaErrorMemoryAllocation);
}

TEST_F(EmulatorTest, RefusesLaunchesThatADeviceRefuses) {
  const auto launch = [&](Dim3 grid, Dim3 block, size_t shared_bytes) {
    return LaunchKernel("Kernel", grid, block, shared_bytes, stream_, [] {});
  };
  EXPECT_EQ(launch({1, 1, 1}, {1024, 1, 1}, 227 * 1024), cudaSuccess);
  EXPECT_EQ(launch({1, 1, 1}, {1025, 1, 1}, 0), cudaErrorInvalidValue);
  EXPECT_EQ(launch({0, 1, 1}, {32, 1, 1}, 0), cudaErrorInvalidValue);
  EXPECT_EQ(launch({1, 65536, 1}, {32, 1, 1}, 0), cudaErrorInvalidValue);
  EXPECT_EQ(launch({1, 1, 1}, {32, 1, 1}, 227 * 1024 + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(EmulatorDeathTest, ThreadsThatCanNeverGoOnAreNamed) {
  EXPECT_DEATH(RunAndWait({64, 1, 1},
                          [] {
                            if (threadIdx.x < 40) __syncwarp();
                          }),
               "Kernel, block \\(0,0,0\\): threads wait for others that never come: 32:__syncwarp");
}

TEST_F(EmulatorDeathTest, LanesThatDisagreeAreNamed) {
  EXPECT_DEATH(RunAndWait({32, 1, 1},
                          [] {
                            if (threadIdx.x == 3) {
                              __syncwarp();
                            } else {
                              __shfl_xor_sync(0xffffffffu, 1, 1);
                            }
                          }),
               "meets .* in another lane of the warp");
}

TEST_F(EmulatorDeathTest, CopiesMustBeAwaited) {
  EXPECT_DEATH(RunAndWait({1, 1, 1},
                          [] {
                            CopyLater(SharedMemory(), nullptr, 4);
                            CommitCopies();
                          }),
               "ended with copies it had not awaited");
}

TEST_F(EmulatorDeathTest, TheHostCannotTouchDeviceMemory) {
  volatile int* memory = New<int>(1);
  EXPECT_DEATH(*memory = 1, "");
}

#if defined(__SANITIZE_ADDRESS__)
TEST_F(EmulatorDeathTest, BoundsAreExact) {
  auto* memory = New<int>(3);
  EXPECT_DEATH(RunAndWait({4, 1, 1}, [=] { memory[threadIdx.x] = 1; }), "AddressSanitizer");
  EXPECT_DEATH(
      RunAndWait({65, 1, 1}, [] { reinterpret_cast<int*>(SharedMemory())[threadIdx.x] = 1; }),
      "AddressSanitizer");
}
#endif

}  // namespace
}  // namespace trireme::emulator
