#include "server/generate_stream.h"

#include <mutex>
#include <utility>

#include "base/log.h"
#include "server/convert.h"
#include "server/grpc_util.h"

namespace trireme {

GenerateStream* GenerateStream::Start(ControllerLoop& loop, grpc::CallbackServerContext* context,
                                      Duration write_timeout, absl::StatusOr<Caller> caller,
                                      TraceContext trace, const v1::GenerateRequest& proto) {
  std::shared_ptr<GenerateStream> stream(new GenerateStream(loop, context, write_timeout));
  stream->self_ = stream;
  auto request = FromProto(proto);
  if (!caller.ok()) {
    stream->Tell(caller.status());
  } else if (!request.ok()) {
    loop.CountRefusal(request.status());
    stream->Tell(request.status());
  } else {
    Own(*caller, *request);
    request->trace = std::move(trace);
    stream->key_ = loop.Generate(*std::move(request),
                                 [stream](Event&& event) { stream->Tell(std::move(event)); });
  }
  return stream.get();
}

void GenerateStream::Tell(Event&& event) {
  std::lock_guard lock(mutex_);
  pending_.Push(std::move(event));
  Pump();
}

void GenerateStream::Pump() {
  while (!writing_ && !finished_) {
    std::optional<Event> event = pending_.Pop();
    if (!event.has_value()) return;
    if (auto* status = std::get_if<absl::Status>(&*event)) {
      finished_ = true;
      return Finish(ToGrpc(*status, *context_));
    }
    if (const auto* accepted = std::get_if<Accepted>(&*event)) request_id_ = accepted->id;
    const bool last = IsLast(*event);
    if (broken_ && !last) continue;
    message_ = ToProto(*std::move(event));
    finished_ = last;
    writing_ = true;
    write_due_ = std::chrono::steady_clock::now() + write_timeout_;
    WatchWrite();
    if (last) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&message_);
    }
  }
}

// One alarm for many writes: it is set again only if one is under way when it rings.
void GenerateStream::WatchWrite() {
  if (watched_) return;
  watched_ = true;
  const Duration left = write_due_ - std::chrono::steady_clock::now();
  // gRPC keeps what it has called until the alarm itself is gone.
  alarm_.Set(std::chrono::system_clock::now() + left, [weak = std::weak_ptr(self_)](bool) {
    if (auto self = weak.lock()) self->CheckWrite();
  });
}

void GenerateStream::CheckWrite() {
  std::lock_guard lock(mutex_);
  watched_ = false;
  if (!writing_) return;
  if (std::chrono::steady_clock::now() < write_due_) return WatchWrite();
  spdlog::warn(
      "{}, the client of request {}, has read nothing for {} s (--write-timeout): its "
      "stream is ended",
      context_->peer(), request_id_, Seconds(write_timeout_));
  context_->TryCancel();
}

void GenerateStream::OnWriteDone(bool ok) {
  std::lock_guard lock(mutex_);
  writing_ = false;
  if (!ok) broken_ = true;
  Pump();
}

void GenerateStream::OnCancel() { loop_.Gone(key_); }

void GenerateStream::OnDone() {
  {
    std::lock_guard lock(mutex_);
    writing_ = false;  // a last write ends without OnWriteDone
  }
  alarm_.Cancel();
  self_.reset();
}

}  // namespace trireme
