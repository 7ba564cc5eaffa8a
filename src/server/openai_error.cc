#include "server/openai_error.h"

#include <utility>

#include "nlohmann/json.hpp"
#include "server/request_fault.h"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;

struct ErrorKind {
  int http_status;
  const char* type;
  const char* code;
};

ErrorKind KindOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return {400, "invalid_request_error", nullptr};
    case absl::StatusCode::kUnauthenticated:
      return {401, "authentication_error", "invalid_api_key"};
    case absl::StatusCode::kPermissionDenied:
      return {403, "permission_error", nullptr};
    case absl::StatusCode::kNotFound:
      return {404, "invalid_request_error", "not_found"};
    case absl::StatusCode::kAlreadyExists:
      return {409, "invalid_request_error", "already_exists"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "rate_limit_exceeded"};
    case absl::StatusCode::kCancelled:
      return {499, "invalid_request_error", "cancelled"};
    case absl::StatusCode::kUnavailable:
      return {503, "server_error", "unavailable"};
    case absl::StatusCode::kAborted:
      return {503, "server_error", "aborted"};
    case absl::StatusCode::kDeadlineExceeded:
      return {504, "server_error", "timeout"};
    default:
      return {500, "server_error", nullptr};
  }
}

std::string CodeOf(const absl::Status& status, const std::string& param) {
  if (std::string reason = ReasonOf(status); !reason.empty()) return reason;
  if (absl::IsNotFound(status) && param == "model") return "model_not_found";
  const char* code = KindOf(status.code()).code;
  return code == nullptr ? "" : code;
}

Json OrNull(std::string text) { return text.empty() ? Json() : Json(std::move(text)); }

}  // namespace

OpenAiError ToOpenAiError(const absl::Status& status, std::string param) {
  const ErrorKind kind = KindOf(status.code());
  if (param.empty()) param = FieldOf(status);
  Json error = {{"message", Message(status)}, {"type", kind.type}};
  error["param"] = OrNull(param);
  error["code"] = OrNull(CodeOf(status, param));
  return {kind.http_status,
          Json{{"error", error}}.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

}  // namespace trireme
