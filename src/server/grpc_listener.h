// Where gRPC's clients dial. A gRPC server of 1.51 that listens by itself stops that for good when
// a connection finds no file descriptor free (CVE-2023-4785); here who dials waits for one.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "grpcpp/server_builder.h"

namespace trireme {

class GrpcListener {
 public:
  // "HOST:PORT", port 0: any that is free. INVALID_ARGUMENT if it is none, UNAVAILABLE naming the
  // system's reason if it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Open(const std::string& address);
  ~GrpcListener();  // Stop()

  const std::string& address() const;  // with the port that was taken

  // Hands connections on to a server that has started.
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;
  void Start(std::unique_ptr<Acceptor> acceptor);

  void Stop();

 private:
  struct Impl;
  explicit GrpcListener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
