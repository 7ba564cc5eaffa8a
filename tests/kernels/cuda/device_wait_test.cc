// How the host waits for the device: that it ends, and what is said where it does not.
#include "kernels/cuda/device_wait.h"

#include <sys/resource.h>

#include "gtest/gtest.h"
#include "kernels/cuda/fault.h"

namespace trireme::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Work that the stream does not get past until ready() is true.
void Block(DeviceWait& wait, std::function<bool()> ready) {
  Check(emulator::EnqueueWork(wait.stream(), std::move(ready)), "EnqueueWork");
}
void BlockForEver(DeviceWait& wait) {
  Block(wait, [] { return false; });
}

class Collectives : public DeviceWait::Watcher {
 public:
  Collectives(std::string last, milliseconds timeout, std::string failure = "")
      : last_(std::move(last)), timeout_(timeout), failure_(std::move(failure)) {}
  std::string Failure() override { return failure_; }
  std::string Last() const override { return last_; }
  milliseconds timeout() const override { return timeout_; }
  void Abort() override { fprintf(stderr, "aborted %s\n", last_.c_str()); }

 private:
  std::string last_;
  milliseconds timeout_;
  std::string failure_;
};

TEST(DeviceWait, WaitsForAllThatWasEnqueuedOrForAnEvent) {
  DeviceWait wait(milliseconds(30000));
  int done = 0;
  cudaEvent_t event;
  Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  const auto enqueue = [&] {
    Block(wait, [&, tries = 0]() mutable { return ++tries == 3 && ++done > 0; });
  };
  for (int i = 0; i < 5; ++i) enqueue();
  Check(cudaEventRecord(event, wait.stream()), "cudaEventRecord");
  for (int i = 0; i < 5; ++i) enqueue();
  EXPECT_EQ(done, 0);
  wait.Await(event, "a test");
  EXPECT_EQ(done, 5);
  wait.Await("a test");
  EXPECT_EQ(done, 10);
  Check(cudaEventDestroy(event), "cudaEventDestroy");
}

TEST(DeviceWait, ALongWaitLeavesTheCpuToOthers) {
  DeviceWait wait(milliseconds(30000));
  const auto cpu_seconds = [] {
    rusage usage = {};
    getrusage(RUSAGE_THREAD, &usage);
    return 1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) +
           static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec);
  };
  const auto start = Clock::now();
  const double before = cpu_seconds();
  wait.Until([&] { return Clock::now() - start > milliseconds(200); }, "a test");
  EXPECT_LT(cpu_seconds() - before, 0.05);
}

TEST(DeviceWaitDeathTest, WorkThatDoesNotEndEndsTheProcess) {
  const auto wait_for_ever = [] {
    DeviceWait wait(milliseconds(20));
    BlockForEver(wait);
    wait.Await("a test");
  };
  EXPECT_DEATH(wait_for_ever(), "^CUDA: a test: not done after 20 ms\n$");
}

TEST(DeviceWaitDeathTest, TheLineNamesWhatWasEnqueuedLastAndTheMostPatientDecides) {
  const auto wait_for_ever = [] {
    DeviceWait wait(milliseconds(1));
    Collectives tensor("AllReduce 7 of ranks 0,1", milliseconds(10)), none("", milliseconds(5)),
        pipeline("Send 2 of ranks 0,2", milliseconds(30)), gone("Recv", milliseconds(60000));
    wait.Add(&gone);
    for (Collectives* each : {&tensor, &none, &pipeline}) wait.Add(each);
    wait.Remove(&gone);
    BlockForEver(wait);
    wait.Await("a test");
  };
  EXPECT_DEATH(wait_for_ever(),
               "^aborted AllReduce 7 of ranks 0,1\naborted \naborted Send 2 of ranks 0,2\n"
               "CUDA: a test: not done after 30 ms; enqueued last: AllReduce 7 of ranks 0,1, "
               "Send 2 of ranks 0,2\n$");
}

TEST(DeviceWaitDeathTest, AWatchersFailureEndsTheProcess) {
  const auto wait_for_ever = [] {
    DeviceWait wait(milliseconds(30000));
    Collectives tensor("AllReduce 7", milliseconds(1), "NCCL: a peer is gone");
    wait.Add(&tensor);
    BlockForEver(wait);
    wait.Await("a test");
  };
  EXPECT_DEATH(wait_for_ever(), "^aborted AllReduce 7\nNCCL: a peer is gone\n$");
}

}  // namespace
}  // namespace trireme::cuda
