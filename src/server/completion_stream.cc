#include "server/completion_stream.h"

#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/event_buffer.h"
#include "server/http_answer.h"
#include "server/openai_answer.h"

namespace trireme {
namespace {

int64_t SecondsSince1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// One call of completions or chats: its requests' events, as fast as the client takes them.
class CompletionStream : public std::enable_shared_from_this<CompletionStream> {
 public:
  CompletionStream(ControllerLoop& loop, CompletionCall call, TraceContext trace,
                   std::shared_ptr<HttpReply> reply)
      : loop_(loop),
        call_(std::move(call)),
        trace_(std::move(trace)),
        reply_(std::move(reply)),
        pending_(call_.requests.size()) {}

  void Start(const ServedModel& model) {
    {
      std::lock_guard lock(mutex_);
      answer_.emplace(call_, call_.request_id, SecondsSince1970(), model.name, model.tokenizer);
    }
    std::vector<uint64_t> keys;
    for (size_t i = 0; i < call_.requests.size(); ++i) {
      call_.requests[i].trace = trace_;
      if (i > 0) call_.requests[i].trace.span_id = NewSpanId();
      keys.push_back(loop_.Generate(
          std::move(call_.requests[i]),
          [self = shared_from_this(), i](Event&& event) { self->Tell(i, std::move(event)); }));
    }
    {
      std::lock_guard lock(mutex_);
      keys_ = keys;
    }
    reply_->OnGone([self = shared_from_this()] { self->EndAll(&ControllerLoop::Gone); });
  }

 private:
  // A stream begins with its first event: what is refused has a status of its own.
  void Tell(size_t prompt, Event&& event) {
    std::unique_lock lock(mutex_);
    const auto* status = std::get_if<absl::Status>(&event);
    if (!call_.stream) {
      if (over_) return;
      answer_->Add(prompt, std::move(event));
      if (!answer_->ended()) return;
      over_ = true;
      lock.unlock();
      if (answer_->error().has_value()) {
        Refuse(*answer_->error());
        CancelAll();
      } else {
        reply_->Send({.body = answer_->Whole(), .headers = {{kTraceHeader, trace_.Header()}}});
      }
      return;
    }
    if (!begun_ && status != nullptr) {
      if (std::exchange(over_, true)) return;
      const absl::Status refused = *status;
      lock.unlock();
      Refuse(refused);
      return CancelAll();
    }
    if (over_) return;
    pending_[prompt].Push(std::move(event));
    const bool begins = !std::exchange(begun_, true);
    lock.unlock();
    if (!begins) return reply_->Wake();
    reply_->Stream({.content_type = "text/event-stream",
                    .headers = {{"Cache-Control", "no-cache"}, {kTraceHeader, trace_.Header()}}},
                   [self = shared_from_this()] { return self->Next(); });
  }

  HttpReply::Chunk Next() {
    std::lock_guard lock(mutex_);
    HttpReply::Chunk chunk;
    constexpr size_t kEnoughBytes = 64 << 10;
    for (size_t i = 0; i < pending_.size(); ++i) {
      while (chunk.bytes.size() < kEnoughBytes && !answer_->ended()) {
        std::optional<Event> event = pending_[i].Pop();
        if (!event.has_value()) break;
        chunk.bytes += answer_->Add(i, *std::move(event));
      }
    }
    chunk.last = answer_->ended();
    if (chunk.last && answer_->error().has_value()) {
      for (uint64_t key : keys_) loop_.Cancel(key);
    }
    return chunk;
  }

  void Refuse(const absl::Status& status) { SendError(*reply_, status, call_.ParamOf(status)); }

  void CancelAll() { EndAll(&ControllerLoop::Cancel); }

  void EndAll(void (ControllerLoop::*end)(uint64_t key)) {
    std::lock_guard lock(mutex_);
    over_ = true;
    for (uint64_t key : keys_) (loop_.*end)(key);
  }

  ControllerLoop& loop_;
  CompletionCall call_;
  const TraceContext trace_;
  const std::shared_ptr<HttpReply> reply_;
  std::mutex mutex_;
  std::optional<CompletionAnswer> answer_ ABSL_GUARDED_BY(mutex_);
  std::vector<EventBuffer> pending_ ABSL_GUARDED_BY(mutex_);  // by prompt
  std::vector<uint64_t> keys_ ABSL_GUARDED_BY(mutex_);
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;  // the stream
  bool over_ ABSL_GUARDED_BY(mutex_) = false;   // nothing more is to be said
};

}  // namespace

void AnswerCompletion(ControllerLoop& loop, const ServedModel& model, CompletionCall call,
                      TraceContext trace, std::shared_ptr<HttpReply> reply) {
  std::make_shared<CompletionStream>(loop, std::move(call), std::move(trace), std::move(reply))
      ->Start(model);
}

}  // namespace trireme
