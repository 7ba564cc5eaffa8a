#include "server/grpc_util.h"

#include <atomic>
#include <string_view>

#include "base/log.h"
#include "base/status.h"
#include "grpc/support/log.h"
#include "server/retry_after.h"

namespace trireme {

grpc::Status ToGrpc(const absl::Status& status, grpc::ServerContextBase& context) {
  if (const auto wait = RetryAfter(status); wait.has_value()) {
    context.AddTrailingMetadata(kRetryPushback, StrCat(std::chrono::milliseconds(*wait).count()));
  }
  return ToGrpc(status);
}

grpc::ChannelArguments ClientArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // Despite its name, what an attempt may take: a server with 64 clients at the door is slow to
  // answer.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a new channel connects anew
  return arguments;
}

void AddApiKey(const std::string& key, grpc::ClientContext& context) {
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
}

namespace {

std::atomic<GrpcSide> log_side = GrpcSide::kClient;

// "Handshake failed with fatal error SSL_ERROR_SSL: error:CODE:SSL routines::REASON."
std::string HandshakeFailure(std::string_view message) {
  if (message.find("Handshake failed") == message.npos) return "";
  if (const size_t colons = message.rfind("::"); colons != message.npos) {
    message.remove_prefix(colons + 2);
  }
  if (message.ends_with('.')) message.remove_suffix(1);
  return std::string(message);
}

void WriteLine(gpr_log_func_args* line) {
  const std::string failure = HandshakeFailure(line->message);
  if (!failure.empty() && log_side == GrpcSide::kServer) {
    return spdlog::warn("TLS with somebody who dials fails: {}", failure);
  }
  // What it says before it aborts is for everybody, the rest for those who look into it.
  const bool aborts = std::string_view(line->message).find("assertion") != std::string_view::npos;
  spdlog::log(aborts ? spdlog::level::critical : spdlog::level::debug, "grpc {}:{} {}", line->file,
              line->line, line->message);
}

}  // namespace

void RouteGrpcLog(GrpcSide side) {
  log_side = side;
  gpr_set_log_function(WriteLine);
}

}  // namespace trireme
