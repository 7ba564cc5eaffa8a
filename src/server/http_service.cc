#include "server/http_service.h"

#include <algorithm>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/admin_service.h"
#include "server/event_buffer.h"
#include "server/json_body.h"
#include "server/openai.h"
#include "server/retry_after.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

int64_t SecondsSince1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string RandomId(const std::string& prefix) {
  thread_local std::random_device device;
  std::ostringstream id;
  id << prefix << std::hex << (uint64_t{device()} << 32 | device());
  return id.str();
}

void SendJson(HttpReply& reply, const Json& json) {
  reply.Send({.body = json.dump(-1, ' ', false, Json::error_handler_t::replace)});
}

void SendError(HttpReply& reply, const absl::Status& status, const std::string& param = "") {
  OpenAiError error = ToOpenAiError(status, param);
  HttpAnswer answer{.status = error.http_status, .body = std::move(error.body)};
  if (const auto wait = RetryAfter(status)) answer.headers["Retry-After"] = StrCat(wait->count());
  reply.Send(std::move(answer));
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
      answer_.emplace(call_, RandomId(call_.is_chat ? "chatcmpl-" : "cmpl-"), SecondsSince1970(),
                      model.name, model.tokenizer);
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
        SendError(*reply_, *answer_->error());
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
      SendError(*reply_, refused);
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

HttpService::HttpService(ControllerLoop& loop, const Metrics& metrics, const Doorkeeper& door,
                         Options options)
    : loop_(loop), metrics_(metrics), door_(door), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<HttpService>> HttpService::Start(ControllerLoop& loop,
                                                                const Metrics& metrics,
                                                                const Doorkeeper& door,
                                                                Options options) {
  options.server.admit = [&door](const HttpRequest& head) {
    const auto authorization = head.headers.find("authorization");
    return door.Admit(authorization == head.headers.end() ? "" : authorization->second).status();
  };
  options.server.refuse = [](const HttpRequest&, const absl::Status& why, const Reply& reply) {
    SendError(*reply, why);
  };
  std::unique_ptr<HttpService> service(new HttpService(loop, metrics, door, std::move(options)));
  ASSIGN_OR_RETURN(service->server_,
                   HttpServer::Start(service->options_.server,
                                     [service = service.get()](HttpRequest request, Reply reply) {
                                       service->Handle(std::move(request), std::move(reply));
                                     }));
  return service;
}

namespace {

void RefuseMethod(HttpReply& reply, const HttpRequest& request, const char* allowed) {
  OpenAiError error =
      ToOpenAiError(InvalidArgument(request.path, " takes ", allowed, ", not ", request.method));
  reply.Send({.status = 405, .body = std::move(error.body), .headers = {{"Allow", allowed}}});
}

}  // namespace

void HttpService::Handle(HttpRequest request, Reply reply) {
  if (AnswerProbe(loop_, request, reply)) return;
  const auto caller = door_.Admit(request.headers["authorization"]);
  if (!caller.ok()) return SendError(*reply, caller.status());
  const std::string& path = request.path;
  const auto get = [&](auto&& answer) {
    request.method == "GET" ? answer() : RefuseMethod(*reply, request, "GET");
  };
  const auto post = [&](auto&& answer) {
    request.method == "POST" ? answer() : RefuseMethod(*reply, request, "POST");
  };
  const std::string models = "/v1/models";
  if (path == "/v1/completions") {
    return post([&] { Complete(ParseCompletion, std::move(request), *caller, reply); });
  }
  if (path == "/v1/chat/completions") {
    return post([&] { Complete(ParseChat, std::move(request), *caller, reply); });
  }
  if (path == models) return get([&] { Models(reply, ""); });
  if (path.starts_with(models + "/")) {
    return get([&] { Models(reply, path.substr(models.size() + 1)); });
  }
  if (path == "/tokenize") return post([&] { Tokenize(request, reply); });
  if (path == "/detokenize") return post([&] { Detokenize(request, reply); });
  if (path == "/metrics") {
    return get([&] { AnswerMetrics(loop_, metrics_, reply); });
  }
  if (path == "/version") return get([&] { SendJson(*reply, {{"version", options_.version}}); });
  OpenAiError error = ToOpenAiError(NotFound("there is nothing at ", path));
  reply->Send({.status = 404, .body = std::move(error.body)});
}

void HttpService::Complete(Parse* parse, HttpRequest request, Caller caller, Reply reply) {
  const size_t n_bytes = request.body.size();
  auto job = [this, parse, request = std::move(request), caller = std::move(caller), reply] {
    StartCompletion(parse, request, caller, reply);
  };
  if (loop_.RunAside(n_bytes, std::move(job))) return;
  SendError(*reply, ResourceExhausted("too many large requests are waiting: retry later"));
}

void HttpService::StartCompletion(Parse* parse, const HttpRequest& request, const Caller& caller,
                                  const Reply& reply) {
  std::string param;
  auto call = parse(request.body, &param);
  if (!call.ok()) return SendError(*reply, call.status(), param);
  const std::string digest = Sha256(request.path + "\n" + request.body);
  for (size_t i = 0; i < call->requests.size(); ++i) {
    Own(caller, call->requests[i]);
    call->requests[i].digest = StrCat(digest, ".", i);
    std::string& id = call->requests[i].request_id;
    if (!id.empty() && call->requests.size() > 1) id += StrCat("-", i);
  }
  auto model = loop_.models().Resolve(call->model);
  if (!model.ok()) return SendError(*reply, model.status(), "model");
  const auto header = request.headers.find(kTraceHeader);
  TraceContext trace = ContinueTrace(header == request.headers.end() ? "" : header->second);
  std::make_shared<CompletionStream>(loop_, *std::move(call), std::move(trace), reply)
      ->Start(**model);
}

void HttpService::Models(const Reply& reply, const std::string& name) {
  const auto describe = [](const ServedModel& model) {
    return Json{{"id", model.name},
                {"object", "model"},
                {"created", 0},
                {"owned_by", "trireme"},
                {"max_model_len", model.context_length}};
  };
  if (!name.empty()) {
    auto model = loop_.models().Resolve(name);
    return model.ok() ? SendJson(*reply, describe(**model)) : SendError(*reply, model.status());
  }
  Json data = Json::array();
  for (const ModelPtr& model : loop_.models().All()) data.push_back(describe(*model));
  SendJson(*reply, {{"object", "list"}, {"data", std::move(data)}});
}

// As vLLM has it: {"model", "prompt", "add_special_tokens"} -> {"tokens", "count", "max_model_len"}
void HttpService::Tokenize(const HttpRequest& request, const Reply& reply) {
  auto body = JsonBody::Parse(request.body);
  if (!body.ok()) return SendError(*reply, body.status());
  const std::string model = body->Text("model").value_or("");
  const auto prompt = body->Text("prompt");
  const bool special = body->Bool("add_special_tokens").value_or(true);
  if (!prompt.has_value()) body->Fail("prompt", "is missing");
  if (!body->status().ok()) return SendError(*reply, body->status(), body->param());
  loop_.Tokenize(model, *prompt, special, [this, reply, model](auto ids) {
    auto found = loop_.models().Resolve(model);
    if (!ids.ok()) return SendError(*reply, ids.status());
    SendJson(*reply, {{"count", ids->size()},
                      {"max_model_len", found.ok() ? (*found)->context_length : 0},
                      {"tokens", *ids}});
  });
}

// {"model", "tokens"} -> {"prompt"}
void HttpService::Detokenize(const HttpRequest& request, const Reply& reply) {
  auto body = JsonBody::Parse(request.body);
  if (!body.ok()) return SendError(*reply, body.status());
  const std::string model = body->Text("model").value_or("");
  const std::vector<int32_t> tokens = body->Ints("tokens");
  if (body->Find("tokens") == nullptr) body->Fail("tokens", "is missing");
  if (!body->status().ok()) return SendError(*reply, body->status(), body->param());
  loop_.Detokenize(model, tokens, /*skip_special_tokens=*/false, [reply](auto text) {
    if (!text.ok()) return SendError(*reply, text.status());
    SendJson(*reply, {{"prompt", *text}});
  });
}

}  // namespace trireme
