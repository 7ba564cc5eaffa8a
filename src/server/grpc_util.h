// What the gRPC shells share.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/channel_arguments.h"
#include "grpcpp/support/status.h"

namespace trireme {

inline constexpr int kMaxMessageBytes = 64 << 20;  // a tokenizer.json can have 35 MB

inline grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

// The same at the end of a call, with RetryAfter beside it (kRetryPushback).
grpc::Status ToGrpc(const absl::Status& status, grpc::ServerContextBase& context);

// Trailing metadata: milliseconds, for a client that tries again (gRPC's proposal A6).
inline constexpr char kRetryPushback[] = "grpc-retry-pushback-ms";

inline absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// Of a client: message size, and a redial within a second rather than gRPC's two minutes.
grpc::ChannelArguments ClientArguments();

// Metadata in which a replica sends the controller's secret.
inline constexpr char kReplicaSecretHeader[] = "trireme-replica-secret";

// The key that a server asks its clients for; empty: none.
void AddApiKey(const std::string& key, grpc::ClientContext& context);

// gRPC's own log lines go to ours, as debug lines; on a server, why TLS let somebody not in as a
// warning.
enum class GrpcSide { kClient, kServer };
void RouteGrpcLog(GrpcSide side);

}  // namespace trireme
