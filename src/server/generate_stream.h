// One Generate call on the server.
#pragma once

#include <memory>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "grpcpp/support/server_callback.h"
#include "server/controller_loop.h"
#include "server/event_buffer.h"
#include "server/keys.h"
#include "trireme/v1/inference.pb.h"

namespace trireme {

// Writes the events of one request as fast as the client reads them; what comes in during a write
// is merged. Owns itself until gRPC is done with it.
class GenerateStream : public grpc::ServerWriteReactor<v1::GenerateEvent> {
 public:
  static GenerateStream* Start(ControllerLoop& loop, absl::StatusOr<Caller> caller,
                               TraceContext trace, const v1::GenerateRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  explicit GenerateStream(ControllerLoop& loop) : loop_(loop) {}
  void Tell(Event&& event);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ControllerLoop& loop_;
  uint64_t key_ = 0;
  std::shared_ptr<GenerateStream> self_;

  // gRPC does not call back from within Start… and Finish, so that the lock may be held there.
  std::mutex mutex_;
  EventBuffer pending_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateEvent message_ ABSL_GUARDED_BY(mutex_);  // under way, while `writing_`
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;    // the client is gone
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // no operation may be started any more
};

}  // namespace trireme
