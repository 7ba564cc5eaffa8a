// One Generate call on the server.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "grpcpp/alarm.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "server/controller_loop.h"
#include "server/event_buffer.h"
#include "server/keys.h"
#include "trireme/v1/inference.pb.h"

namespace trireme {

// Writes the events of one request as fast as the client reads them: one write at a time, and what
// comes in meanwhile is merged. gRPC ends a write when the client's windows have taken it; one that
// they do not take within `write_timeout` ends the call. Owns itself until gRPC is done with it.
class GenerateStream : public grpc::ServerWriteReactor<v1::GenerateEvent> {
 public:
  static GenerateStream* Start(ControllerLoop& loop, grpc::CallbackServerContext* context,
                               Duration write_timeout, absl::StatusOr<Caller> caller,
                               TraceContext trace, const v1::GenerateRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  GenerateStream(ControllerLoop& loop, grpc::CallbackServerContext* context, Duration write_timeout)
      : loop_(loop), context_(context), write_timeout_(write_timeout) {}
  void Tell(Event&& event);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckWrite();

  ControllerLoop& loop_;
  grpc::CallbackServerContext* const context_;  // gRPC's, until OnDone
  const Duration write_timeout_;
  uint64_t key_ = 0;
  std::shared_ptr<GenerateStream> self_;

  // gRPC does not call back from within Start… and Finish, so that the lock may be held there.
  std::mutex mutex_;
  EventBuffer pending_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateEvent message_ ABSL_GUARDED_BY(mutex_);  // under way, while `writing_`
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  Time write_due_ ABSL_GUARDED_BY(mutex_);          // while `writing_`
  bool watched_ ABSL_GUARDED_BY(mutex_) = false;    // the alarm is set
  std::string request_id_ ABSL_GUARDED_BY(mutex_);  // for the log
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;     // the client is gone
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;   // no operation may be started any more
  grpc::Alarm alarm_;
};

}  // namespace trireme
