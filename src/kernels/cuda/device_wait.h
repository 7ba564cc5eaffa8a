// DeviceWait: the stream on which everything is enqueued, and the one place where the host waits
// for it.
//
// A wait polls, because work may never end: a kernel that hangs, a collective whose peer does not
// come. Past the deadline, or when a watcher sees a failure, the process ends with one line.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace trireme {

class Ops;

namespace cuda {

class DeviceWait {
 public:
  using Milliseconds = std::chrono::milliseconds;

  // Enqueues work that can fail apart from the stream: collectives.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    // What went wrong, for the line that ends the process; empty: nothing.
    virtual std::string Failure() = 0;
    // What it enqueued last: "AllReduce 7 of ranks 0,1"; empty: nothing yet.
    virtual std::string Last() const = 0;
    // How long its work may wait for peers. A wait allows for the most patient watcher.
    virtual Milliseconds timeout() const = 0;
    // Frees the device of its work; the process ends next.
    virtual void Abort() = 0;
  };

  // Makes the stream. `timeout`: the longest that work may take.
  explicit DeviceWait(Milliseconds timeout);
  ~DeviceWait();  // waits for the stream
  DeviceWait(const DeviceWait&) = delete;
  DeviceWait& operator=(const DeviceWait&) = delete;

  cudaStream_t stream() const { return stream_; }

  // A watcher, asked in every wait until it is removed.
  void Add(Watcher* watcher) { watchers_.push_back(watcher); }
  void Remove(Watcher* watcher);

  // Returns when the event has come; when the stream is done. `what` names the wait in the line of
  // a failure.
  void Await(cudaEvent_t event, const char* what);
  void Await(const char* what);

  // Returns when done() is true, which is asked often: for waits beside the stream.
  void Until(const std::function<bool()>& done, const std::string& what);

 private:
  void CheckWatchers();
  [[noreturn]] void GiveUp(const std::string& what, Milliseconds limit);

  cudaStream_t stream_ = nullptr;
  Milliseconds timeout_;
  std::vector<Watcher*> watchers_;
};

// Of Ops that MakeCudaOps() made.
DeviceWait& DeviceWaitOf(Ops& ops);

}  // namespace cuda
}  // namespace trireme
