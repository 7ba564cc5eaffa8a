#include "server/http_service.h"

#include <utility>
#include <vector>

#include "server/admin_service.h"
#include "server/admission.h"
#include "server/chat.h"
#include "server/completion_stream.h"
#include "server/counted_reply.h"
#include "server/http_answer.h"
#include "server/json_body.h"
#include "server/trace_context.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

// By the name that the client gave the request, or a new one.
std::shared_ptr<HttpReply> WithRequestId(std::shared_ptr<HttpReply> reply,
                                         const HttpRequest& request) {
  const std::string name = ClientsName(request);
  return NamedReply(std::move(reply), name.empty() ? NewRequestId("req-", request) : name);
}

}  // namespace

HttpService::HttpService(ControllerLoop& loop, Metrics& metrics, const Doorkeeper& door,
                         Options options)
    : loop_(loop), metrics_(metrics), door_(door), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<HttpService>> HttpService::Start(ControllerLoop& loop,
                                                                Metrics& metrics,
                                                                const Doorkeeper& door,
                                                                Options options) {
  options.server.admit = [&door](const HttpRequest& head) {
    const auto authorization = head.headers.find("authorization");
    return door.Admit(authorization == head.headers.end() ? "" : authorization->second).status();
  };
  options.server.refuse = [&loop, &metrics, &door](const HttpRequest& head, const absl::Status& why,
                                                   const Reply& reply) {
    if (absl::IsUnauthenticated(why)) door.Refused(head.peer, why);
    loop.CountRefusal(why);
    SendError(*WithRequestId(CountedReply(metrics, head.path, reply), head), why);
  };
  std::unique_ptr<HttpService> service(new HttpService(loop, metrics, door, std::move(options)));
  HttpServer::Options server = service->options_.server;
  server.on_refused = [&metrics](int status) { metrics.AddHttp("other", status); };
  const auto handle = [service = service.get(), &metrics](HttpRequest request, Reply reply) {
    reply = CountedReply(metrics, request.path, std::move(reply));
    service->Handle(std::move(request), std::move(reply));
  };
  ASSIGN_OR_RETURN(service->server_, HttpServer::Start(std::move(server), handle));
  metrics.Watch("http_connections", "Open HTTP connections.", [server = service->server_.get()] {
    return static_cast<double>(server->n_connections());
  });
  return service;
}

void HttpService::Handle(HttpRequest request, Reply reply) {
  const std::string& path = request.path;
  reply = WithRequestId(std::move(reply), request);
  if (AnswerProbe(loop_, request, reply)) return;
  const auto caller = door_.Admit(request.headers["authorization"]);
  if (!caller.ok()) {
    door_.Refused(request.peer, caller.status());
    loop_.CountRefusal(caller.status());
    return SendError(*reply, caller.status());
  }
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
  if (path == "/tokenize") {
    return post(
        [&] { Aside(std::move(request), reply, [this](auto&... to) { Tokenize(to...); }); });
  }
  if (path == "/detokenize") {
    return post(
        [&] { Aside(std::move(request), reply, [this](auto&... to) { Detokenize(to...); }); });
  }
  if (path == "/metrics") {
    return get([&] { AnswerMetrics(loop_, metrics_, reply); });
  }
  if (path == "/version") return get([&] { SendJson(*reply, {{"version", options_.version}}); });
  const bool probe = path == "/live" || path == "/ready" || path == "/health";
  if (probe || path.starts_with("/ready/")) return RefuseMethod(*reply, request, "GET");
  SendError(*reply, NotFound("there is nothing at ", path));
}

void HttpService::Aside(HttpRequest request, const Reply& reply, Answer answer) {
  const size_t n_bytes = request.body.size();
  auto job = [request = std::move(request), reply, answer = std::move(answer)] {
    answer(request, reply);
  };
  if (loop_.RunAside(n_bytes, std::move(job))) return;
  SendError(*reply, ResourceExhausted("too many large requests are waiting: retry later"));
}

void HttpService::Complete(ParseCall* parse, HttpRequest request, const Caller& caller,
                           const Reply& reply) {
  Aside(std::move(request), reply, [this, parse, caller](const auto& request, const auto& reply) {
    StartCompletion(parse, request, caller, reply);
  });
}

void HttpService::StartCompletion(ParseCall* parse, const HttpRequest& request,
                                  const Caller& caller, const Reply& reply) {
  std::string param;
  auto call = parse(request.body, &param);
  if (!call.ok()) {
    loop_.CountRefusal(call.status());
    return SendError(*reply, call.status(), param);
  }
  std::string& id = call->request_id;
  if (id.empty()) id = NewRequestId(call->is_chat ? "chatcmpl-" : "cmpl-", request);
  for (size_t i = 0; i < call->requests.size(); ++i) {
    Own(caller, call->requests[i]);
    call->requests[i].digest = StrCat(request.path, " ", call->digest, ".", i);
    call->requests[i].request_id = call->requests.size() > 1 ? StrCat(id, "-", i) : id;
  }
  const bool named = ClientsName(request).empty() && IsRequestId(id);
  const Reply to = named ? NamedReply(reply, id) : reply;
  auto model = loop_.models().Resolve(call->model);
  if (!model.ok()) {
    loop_.CountRefusal(model.status());
    return SendError(*to, model.status(), "model");
  }
  const auto header = [&](const char* name) {
    const auto found = request.headers.find(name);
    return found == request.headers.end() ? std::string() : found->second;
  };
  TraceContext trace = ContinueTrace(header(kTraceHeader));
  trace.authority = header("host");
  AnswerCompletion(loop_, **model, *std::move(call), std::move(trace), to);
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
    return model.ok() ? SendJson(*reply, describe(**model))
                      : SendError(*reply, model.status(), "model");
  }
  Json data = Json::array();
  for (const ModelPtr& model : loop_.models().All()) data.push_back(describe(*model));
  SendJson(*reply, {{"object", "list"}, {"data", std::move(data)}});
}

// {"model", "prompt" or "messages", …} -> {"count", "max_model_len", "tokens", "token_strs"}
void HttpService::Tokenize(const HttpRequest& request, const Reply& reply) {
  std::string param;
  const auto call = ParseTokenize(request.body, &param);
  if (!call.ok()) return SendError(*reply, call.status(), param);
  const auto model = loop_.models().Resolve(call->model);
  if (!model.ok()) return SendError(*reply, model.status(), "model");
  std::string prompt = call->prompt;
  if (call->chat != nullptr) {
    const auto& templates = (*model)->chat;
    auto rendered = templates.ok() ? templates->Render(*call->chat) : templates.status();
    if (!rendered.ok()) return SendError(*reply, rendered.status(), "messages");
    prompt = *std::move(rendered);
  }
  const auto answer = [reply, model = *model, strings = call->return_token_strs](auto ids) {
    if (!ids.ok()) return SendError(*reply, ids.status());
    Json json = {{"count", ids->size()}, {"max_model_len", model->context_length}};
    if (strings) {
      json["token_strs"] = Json::array();
      for (int32_t id : *ids) json["token_strs"].push_back(model->tokenizer->IdToToken(id));
    }
    json["tokens"] = *std::move(ids);
    SendJson(*reply, json);
  };
  loop_.Tokenize((*model)->name, std::move(prompt), call->add_special_tokens, answer);
}

// {"model", "tokens"} -> {"prompt"}
void HttpService::Detokenize(const HttpRequest& request, const Reply& reply) {
  auto body = JsonBody::Parse(request.body);
  if (!body.ok()) return SendError(*reply, body.status());
  const std::string model = body->Text("model").value_or("");
  const std::vector<int32_t> tokens = body->Ints("tokens");
  if (body->Find("tokens") == nullptr) body->Fail("tokens", "is missing");
  if (!body->status().ok()) return SendError(*reply, body->status(), body->param());
  const auto found = loop_.models().Resolve(model);
  if (!found.ok()) return SendError(*reply, found.status(), "model");
  loop_.Detokenize((*found)->name, tokens, /*skip_special_tokens=*/false, [reply](auto text) {
    if (!text.ok()) return SendError(*reply, text.status());
    SendJson(*reply, {{"prompt", *text}});
  });
}

}  // namespace trireme
