#include "kernels/cuda/device_wait.h"

#include <algorithm>
#include <thread>

#include "base/str.h"
#include "kernels/cuda/fault.h"

namespace trireme::cuda {
namespace {

using Clock = std::chrono::steady_clock;

// A step takes milliseconds: its end is seen at once if it comes soon, else late by a few percent.
constexpr Clock::duration kSpin = std::chrono::microseconds(100);
constexpr Clock::duration kShortestSleep = std::chrono::microseconds(20);
constexpr Clock::duration kLongestSleep = std::chrono::microseconds(200);

bool Done(cudaError_t state, const char* what) {
  if (state == cudaErrorNotReady) return false;
  Check(state, what);
  return true;
}

}  // namespace

DeviceWait::DeviceWait(Milliseconds timeout) : timeout_(timeout) {
  Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

DeviceWait::~DeviceWait() {
  Await("the last work");
  Check(cudaStreamDestroy(stream_), "cudaStreamDestroy");
}

void DeviceWait::Remove(Watcher* watcher) { std::erase(watchers_, watcher); }

void DeviceWait::Await(cudaEvent_t event, const char* what) {
  Until([&] { return Done(cudaEventQuery(event), what); }, what);
}

void DeviceWait::Await(const char* what) {
  Until([&] { return Done(cudaStreamQuery(stream_), what); }, what);
}

void DeviceWait::Until(const std::function<bool()>& done, const std::string& what) {
  const auto start = Clock::now();
  while (!done()) {
    const Clock::duration waited = Clock::now() - start;
    if (waited < kSpin) {
      __builtin_ia32_pause();
      continue;
    }
    CheckWatchers();
    Milliseconds limit = timeout_;
    for (const Watcher* watcher : watchers_) limit = std::max(limit, watcher->timeout());
    if (waited > limit) GiveUp(what, limit);
    std::this_thread::sleep_for(std::clamp(waited / 16, kShortestSleep, kLongestSleep));
  }
}

void DeviceWait::CheckWatchers() {
  for (Watcher* watcher : watchers_) {
    const std::string failure = watcher->Failure();
    if (failure.empty()) continue;
    for (Watcher* each : watchers_) each->Abort();
    Fault(failure);
  }
}

void DeviceWait::GiveUp(const std::string& what, Milliseconds limit) {
  std::vector<std::string> last;
  for (const Watcher* watcher : watchers_) {
    if (std::string text = watcher->Last(); !text.empty()) last.push_back(std::move(text));
  }
  for (Watcher* watcher : watchers_) watcher->Abort();
  Fault(StrCat("CUDA: ", what, ": not done after ", limit.count(), " ms",
               last.empty() ? "" : "; enqueued last: ", Join(last, ", ")));
}

}  // namespace trireme::cuda
