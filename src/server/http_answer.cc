#include "server/http_answer.h"

#include <cstdint>
#include <random>
#include <sstream>
#include <utility>

#include "server/admission.h"
#include "server/openai_error.h"
#include "server/request_fault.h"
#include "server/retry_after.h"

namespace trireme {

using Json = nlohmann::ordered_json;

void SendJson(HttpReply& reply, const Json& json) {
  reply.Send({.body = json.dump(-1, ' ', false, Json::error_handler_t::replace)});
}

void SendError(HttpReply& reply, const absl::Status& status, const std::string& param) {
  OpenAiError error = ToOpenAiError(status, param);
  HttpAnswer answer{.status = error.http_status, .body = std::move(error.body)};
  if (const auto wait = RetryAfter(status)) answer.headers["Retry-After"] = StrCat(wait->count());
  if (error.http_status == 401) answer.headers["WWW-Authenticate"] = "Bearer";
  reply.Send(std::move(answer));
}

void RefuseMethod(HttpReply& reply, const HttpRequest& request, const char* allowed) {
  const auto status = InvalidArgument(request.path, " takes ", allowed, ", not ", request.method);
  OpenAiError error = ToOpenAiError(WithReason(status, kMethodNotAllowed));
  reply.Send({.status = 405, .body = std::move(error.body), .headers = {{"Allow", allowed}}});
}

std::string ClientsName(const HttpRequest& request) {
  constexpr size_t kMaxBytes = 96;  // what is left of a request_id beside what is put around it
  const auto header = request.headers.find("x-request-id");
  if (header == request.headers.end()) return "";
  const std::string& name = header->second;
  return name.size() <= kMaxBytes && IsRequestId(name) ? name : "";
}

std::string NewRequestId(const std::string& prefix, const HttpRequest& request) {
  thread_local std::random_device device;
  const std::string name = ClientsName(request);
  std::ostringstream id;
  id << prefix << name << (name.empty() ? "" : "-") << std::hex
     << (uint64_t{device()} << 32 | device());
  return id.str();
}

namespace {

class Named : public HttpReply {
 public:
  Named(std::shared_ptr<HttpReply> reply, std::string name)
      : reply_(std::move(reply)), name_(std::move(name)) {}

  void Send(HttpAnswer answer) override { reply_->Send(WithName(std::move(answer))); }
  void Stream(HttpAnswer answer, std::function<Chunk()> next) override {
    reply_->Stream(WithName(std::move(answer)), std::move(next));
  }
  void Wake() override { reply_->Wake(); }
  void OnGone(std::function<void()> gone) override { reply_->OnGone(std::move(gone)); }

 private:
  HttpAnswer WithName(HttpAnswer answer) const {
    answer.headers.emplace("X-Request-Id", name_);
    return answer;
  }

  const std::shared_ptr<HttpReply> reply_;
  const std::string name_;
};

}  // namespace

std::shared_ptr<HttpReply> NamedReply(std::shared_ptr<HttpReply> reply, std::string name) {
  return std::make_shared<Named>(std::move(reply), std::move(name));
}

}  // namespace trireme
