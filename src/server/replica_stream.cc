#include "server/replica_stream.h"

#include <mutex>
#include <utility>

#include "base/log.h"
#include "grpcpp/server_context.h"
#include "server/convert.h"
#include "server/grpc_util.h"

namespace trireme {

using replica::v1::FromReplica;
using replica::v1::ToReplica;

namespace {

constexpr size_t kManyIds = 16 << 10;

}  // namespace

ReplicaStream* ReplicaStream::Start(ControllerLoop& loop, grpc::CallbackServerContext* context,
                                    bool admitted) {
  std::shared_ptr<ReplicaStream> stream(new ReplicaStream(loop, context));
  stream->self_ = stream;
  if (admitted) {
    stream->ReadNext();
  } else {
    spdlog::warn("{} dials as a replica without the secret that replicas are given",
                 context->peer());
    stream->Close("it does not know the secret that replicas are given (--replica-secret)",
                  /*rejected=*/true);
  }
  return stream.get();
}

// ---- What the replica sends.

void ReplicaStream::ReadNext() {
  std::lock_guard lock(mutex_);
  if (!finished_) StartRead(&incoming_);
}

void ReplicaStream::OnReadDone(bool ok) {
  if (!ok) return Broken();
  uint64_t link;
  {
    std::lock_guard lock(mutex_);
    link = link_;
  }
  const auto message = incoming_.message_case();
  if (link == 0 && message == FromReplica::kRegistration) {
    return Register(std::move(*incoming_.mutable_registration()));
  }
  if (link != 0 && message == FromReplica::kHeartbeat) {
    loop_.Heartbeat(link);
    return ReadNext();
  }
  if (link != 0 && message == FromReplica::kReport) {
    return loop_.Report(link, FromProto(incoming_.report()), [self = self_] { self->ReadNext(); });
  }
  if (link != 0 && message == FromReplica::kLeaving) {
    loop_.Drain(link, [](const absl::Status&) {});
    return ReadNext();
  }
  if (link != 0) loop_.LinkDown(link, "it sent a message out of turn");
  Close("protocol fault: a message out of turn", /*rejected=*/true);
}

void ReplicaStream::Register(replica::v1::Register&& registration) {
  const RevisionRange ours,
      theirs{.oldest = registration.oldest_revision() > 0 ? registration.oldest_revision()
                                                          : registration.revision(),
             .newest = registration.revision()};
  revision_ = NewestInCommon(ours, theirs);
  if (revision_ == 0) {
    const auto name = [](const RevisionRange& range) {
      return range.oldest == range.newest ? StrCat(range.newest)
                                          : StrCat(range.oldest, " to ", range.newest);
    };
    const std::string reason =
        StrCat("the replica speaks protocol revision ", name(theirs), " (version ",
               registration.info().version(), "), this controller ", name(ours),
               ": use programs of versions that have one in common");
    spdlog::warn("{}", reason);
    return Close(reason, /*rejected=*/true);
  }
  const uint64_t instance = registration.instance();
  const uint64_t link =
      loop_.AddReplica(instance, FromProto(std::move(*registration.mutable_info())), self_);
  bool broken;
  {
    std::lock_guard lock(mutex_);
    link_ = link;
    broken = closing_;
  }
  if (broken) return loop_.LinkDown(link, "the connection broke");
  ReadNext();
}

void ReplicaStream::Broken() {
  uint64_t link;
  {
    std::lock_guard lock(mutex_);
    link = closing_ ? 0 : link_;
    closing_ = true;
    outgoing_.resize(writing_ ? 1 : 0);
    Pump();
  }
  if (link != 0) loop_.LinkDown(link, "the connection broke");
}

void ReplicaStream::OnCancel() { Broken(); }

void ReplicaStream::OnDone() { self_.reset(); }

// ---- What it is sent.

void ReplicaStream::Send(Outgoing outgoing) {
  std::lock_guard lock(mutex_);
  if (closing_) return;
  outgoing_.push_back(std::move(outgoing));
  Pump();
}

void ReplicaStream::Pump() {
  if (writing_ || finished_) return;
  if (!outgoing_.empty()) {
    writing_ = true;
    Outgoing& next = outgoing_.front();
    if (!next.sequence.has_value()) return StartWrite(&next.message);
    loop_.RunSoon([self = self_, &next] {
      *next.message.mutable_submit() = ToProto(*next.sequence);
      self->StartWrite(&next.message);
    });
  } else if (closing_) {
    finished_ = true;
    Finish(status_);
  }
}

void ReplicaStream::OnWriteDone(bool ok) {
  std::lock_guard lock(mutex_);
  writing_ = false;
  outgoing_.pop_front();
  if (!ok) outgoing_.clear();  // the failed read says so too
  Pump();
}

void ReplicaStream::Registered(uint64_t link, const ControllerOptions& options) {
  ToReplica message;
  message.mutable_registered()->set_link(link);
  message.mutable_registered()->set_heartbeat_s(Seconds(options.heartbeat_interval));
  message.mutable_registered()->set_timeout_s(Seconds(options.replica_timeout));
  message.mutable_registered()->set_revision(revision_);
  Send({.message = std::move(message)});
}

void ReplicaStream::Submit(SequenceRequest sequence) {
  Outgoing outgoing;
  if (sequence.prompt_ids.size() > kManyIds) {  // it takes a while to write them down
    outgoing.sequence = std::move(sequence);
  } else {
    *outgoing.message.mutable_submit() = ToProto(sequence);
  }
  Send(std::move(outgoing));
}

void ReplicaStream::Cancel(uint64_t sequence_id) {
  ToReplica message;
  message.mutable_cancel()->set_id(sequence_id);
  Send({.message = std::move(message)});
}

void ReplicaStream::Heartbeat() {
  ToReplica message;
  message.mutable_heartbeat();
  Send({.message = std::move(message)});
}

void ReplicaStream::Shutdown() {
  ToReplica message;
  message.mutable_shutdown();
  Send({.message = std::move(message)});
}

void ReplicaStream::Close(const std::string& reason, bool rejected) {
  std::lock_guard lock(mutex_);
  if (closing_) return;
  closing_ = true;
  status_ = {rejected ? grpc::StatusCode::FAILED_PRECONDITION : grpc::StatusCode::ABORTED, reason};
  outgoing_.resize(writing_ ? 1 : 0);
  if (rejected) {
    outgoing_.emplace_back().message.mutable_reject()->set_reason(reason);
  } else if (writing_) {
    context_->TryCancel();  // the replica may never read what is under way
  }
  Pump();
}

}  // namespace trireme
