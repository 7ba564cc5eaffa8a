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
        pending_(call_.requests.size()),
        n_open_(call_.requests.size()) {}

  void Start(const ServedModel& model) {
    answer_.emplace(call_, call_.request_id, SecondsSince1970(), model.name, model.tokenizer);
    reply_->OnGone([self = shared_from_this()] { self->EndAll(&ControllerLoop::Gone); });
    for (size_t i = 0; i < call_.requests.size(); ++i) {
      if (over()) return;  // one has been refused, or the client has gone
      call_.requests[i].trace = trace_;
      if (i > 0) call_.requests[i].trace.span_id = NewSpanId();
      Keep(loop_.Generate(
          std::move(call_.requests[i]),
          [self = shared_from_this(), i](Event&& event) { self->Tell(i, std::move(event)); }));
    }
  }

 private:
  using End = void (ControllerLoop::*)(uint64_t key);

  // On the loop's thread, mostly: what takes time is done elsewhere. A stream begins with its first
  // event: what is refused has a status of its own.
  void Tell(size_t prompt, Event&& event) {
    std::unique_lock lock(mutex_);
    if (over_) return;
    if (const auto* status = std::get_if<absl::Status>(&event); status != nullptr && !begun_) {
      const absl::Status refused = *status;
      lock.unlock();
      EndAll(&ControllerLoop::Cancel);
      return SendError(*reply_, refused, call_.ParamOf(refused));
    }
    n_bytes_ += BytesOf(event);
    n_open_ -= IsLast(event) ? 1 : 0;
    pending_[prompt].Push(std::move(event));
    if (!call_.stream) {
      if (n_open_ > 0) return;
      over_ = true;
      lock.unlock();
      const auto send = [self = shared_from_this()] { self->SendWhole(); };
      if (!loop_.RunAside(n_bytes_, send)) send();
      return;
    }
    const bool begins = !std::exchange(begun_, true);
    lock.unlock();
    if (!begins) return reply_->Wake();
    reply_->Stream({.content_type = "text/event-stream",
                    .headers = {{"Cache-Control", "no-cache"}, {kTraceHeader, trace_.Header()}}},
                   [self = shared_from_this()] { return self->Next(); });
  }

  // About what it takes in the answer.
  static size_t BytesOf(const Event& event) {
    const auto* delta = std::get_if<Delta>(&event);
    if (delta == nullptr) return 0;
    constexpr size_t kBytesOfScore = 64;
    size_t n_scores = 0;
    for (const auto* logprobs : {&delta->logprobs, &delta->prompt_logprobs}) {
      for (const TokenLogprobs& of_token : *logprobs) n_scores += 1 + of_token.top.size();
    }
    return delta->text.size() + n_scores * kBytesOfScore;
  }

  std::optional<Event> Pop(size_t prompt) {
    std::lock_guard lock(mutex_);
    return pending_[prompt].Pop();
  }

  // Every event is there.
  void SendWhole() {
    for (size_t i = 0; i < pending_.size(); ++i) {
      while (std::optional<Event> event = Pop(i)) answer_->Add(i, *std::move(event));
    }
    reply_->Send({.body = answer_->Whole(), .headers = {{kTraceHeader, trace_.Header()}}});
  }

  HttpReply::Chunk Next() {
    HttpReply::Chunk chunk;
    constexpr size_t kEnoughBytes = 64 << 10;
    for (size_t i = 0; i < pending_.size(); ++i) {
      while (chunk.bytes.size() < kEnoughBytes && !answer_->ended()) {
        std::optional<Event> event = Pop(i);
        if (!event.has_value()) break;
        chunk.bytes += answer_->Add(i, *std::move(event));
      }
    }
    chunk.last = answer_->ended();
    if (chunk.last && answer_->error().has_value()) EndAll(&ControllerLoop::Cancel);
    return chunk;
  }

  bool over() {
    std::lock_guard lock(mutex_);
    return over_;
  }

  void Keep(uint64_t key) {
    std::lock_guard lock(mutex_);
    keys_.push_back(key);
    if (end_ != nullptr) (loop_.*end_)(key);
  }

  // Every request, also one that is just being handed over.
  void EndAll(End end) {
    std::lock_guard lock(mutex_);
    over_ = true;
    end_ = end;
    for (uint64_t key : keys_) (loop_.*end)(key);
  }

  ControllerLoop& loop_;
  CompletionCall call_;
  const TraceContext trace_;
  const std::shared_ptr<HttpReply> reply_;
  std::optional<CompletionAnswer>
      answer_;  // of whoever answers: Next, one call at a time, or SendWhole
  std::mutex mutex_;
  std::vector<EventBuffer> pending_;  // by prompt; each guarded by mutex_
  std::vector<uint64_t> keys_ ABSL_GUARDED_BY(mutex_);
  size_t n_open_ ABSL_GUARDED_BY(mutex_);       // prompts that have not ended
  size_t n_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of the answer, about
  End end_ ABSL_GUARDED_BY(mutex_) = nullptr;   // how the requests were ended before their end
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;  // the stream
  bool over_ ABSL_GUARDED_BY(mutex_) = false;   // nothing more is to be told
};

}  // namespace

void AnswerCompletion(ControllerLoop& loop, const ServedModel& model, CompletionCall call,
                      TraceContext trace, std::shared_ptr<HttpReply> reply) {
  std::make_shared<CompletionStream>(loop, std::move(call), std::move(trace), std::move(reply))
      ->Start(model);
}

}  // namespace trireme
