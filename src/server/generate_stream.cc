#include "server/generate_stream.h"

#include <mutex>
#include <utility>

#include "server/convert.h"
#include "server/grpc_util.h"

namespace trireme {

GenerateStream* GenerateStream::Start(ControllerLoop& loop, absl::StatusOr<Caller> caller,
                                      TraceContext trace, const v1::GenerateRequest& proto) {
  std::shared_ptr<GenerateStream> stream(new GenerateStream(loop));
  stream->self_ = stream;
  auto request = FromProto(proto);
  if (!caller.ok()) {
    stream->Tell(caller.status());
  } else if (!request.ok()) {
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
      return Finish(ToGrpc(*status));
    }
    const bool last = IsLast(*event);
    if (broken_ && !last) continue;
    message_ = ToProto(*std::move(event));
    finished_ = last;
    writing_ = true;
    if (last) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&message_);
    }
  }
}

void GenerateStream::OnWriteDone(bool ok) {
  std::lock_guard lock(mutex_);
  writing_ = false;
  if (!ok) broken_ = true;
  Pump();
}

void GenerateStream::OnCancel() { loop_.Gone(key_); }

void GenerateStream::OnDone() { self_.reset(); }

}  // namespace trireme
