// One replica's link on the server.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "grpcpp/support/server_callback.h"
#include "server/controller_loop.h"
#include "trireme/replica/v1/replica.pb.h"

namespace trireme {

// Reads a report only when the controller has taken in the one before. Owns itself until gRPC is
// done with it.
class ReplicaStream
    : public grpc::ServerBidiReactor<replica::v1::FromReplica, replica::v1::ToReplica>,
      public ReplicaLink {
 public:
  // Not `admitted`: it is told so, and that is the end.
  static ReplicaStream* Start(ControllerLoop& loop, grpc::CallbackServerContext* context,
                              bool admitted);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Registered(uint64_t link, const ControllerOptions& options) override;
  void Submit(SequenceRequest sequence) override;
  void Cancel(uint64_t sequence_id) override;
  void Heartbeat() override;
  void Shutdown() override;
  void Close(const std::string& reason, bool rejected) override;

 private:
  ReplicaStream(ControllerLoop& loop, grpc::CallbackServerContext* context)
      : loop_(loop), context_(context) {}
  void Register(replica::v1::Register&& registration);
  void ReadNext();
  struct Outgoing {
    replica::v1::ToReplica message;
    std::optional<SequenceRequest> sequence;  // of which the message is made when it is its turn
  };
  void Send(Outgoing outgoing);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Broken();

  ControllerLoop& loop_;
  grpc::CallbackServerContext* const context_;
  std::shared_ptr<ReplicaStream> self_;
  replica::v1::FromReplica incoming_;  // of the read under way
  int32_t revision_ = 0;               // that is spoken; since before the link is known

  // gRPC does not call back from within Start… and Finish, so that the lock may be held there.
  std::mutex mutex_;
  uint64_t link_ ABSL_GUARDED_BY(mutex_) = 0;              // 0: not registered
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mutex_);  // while writing, the first is under way
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;   // finish once nothing is being written
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // no operation may be started any more
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme
