// gRPC over TLS, or in plain text.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/server_credentials.h"
#include "server/grpc_util.h"
#include "server/tls.h"

namespace trireme {

// What a server shows; the store's files are read again when they change, at the next connection.
// To be kept until the server is gone. `store` null: plain text.
std::shared_ptr<grpc::ServerCredentials> ServerCredentials(std::shared_ptr<TlsStore> store);

// How a client dials a server.
struct ClientTls {
  bool on = false;          // by TLS; so it is if a file is given, too
  TlsFiles files;           // no `ca`: the system's authorities are trusted
  std::string server_name;  // that the server's certificate is for; empty: as dialled

  bool used() const { return on || files.any(); }
};

// Connects with the first call, or says what is wrong with the files.
absl::StatusOr<std::shared_ptr<grpc::Channel>> Dial(const std::string& address,
                                                    const ClientTls& tls);

// The same with files that were read.
std::shared_ptr<grpc::Channel> Dial(const std::string& address, const ClientTls& tls,
                                    const TlsPem& pem,
                                    grpc::ChannelArguments arguments = ClientArguments());

// What a call over such a channel ended with, and what may be behind it where gRPC does not know.
absl::Status Explain(const absl::Status& status, const ClientTls& tls);

}  // namespace trireme
