// The controller as a gRPC server: Inference and Control for clients, ReplicaService for replicas,
// health (SERVING while a replica is linked, which has then run a forward pass) and reflection; and
// over HTTP (http_service.h).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "server/controller.h"
#include "server/http_server.h"
#include "server/tls.h"

namespace trireme {

class ControllerService {
 public:
  struct Options {
    std::string address = "127.0.0.1:0";  // HOST:PORT; port 0: any that is free
    std::string http_address;             // likewise; empty: no HTTP
    std::string admin_address;            // likewise, in plain text: probes and metrics
    TlsFiles tls;                // of both; with `ca`, whoever dials must show a certificate
    std::string api_keys;        // a file of KeyFile's; empty: everybody may do everything
    std::string replica_secret;  // that replicas must know; empty: none
    std::string ledger_dir;      // where the ledger is kept; empty: in memory alone
    std::string metrics_prefix = "trireme_";
    std::string otlp_endpoint;  // of a collector of spans (tracer.h); empty: none
    std::string version;        // of the program
    ControllerOptions core;
    int tokenizer_threads = 2;
    Duration write_timeout = std::chrono::seconds(30);  // for one that a client does not read
    // A client that does not answer gRPC's ping, sent after so long a silence, is gone.
    Duration keepalive = std::chrono::seconds(60);
    size_t max_connections = HttpServer::Options().max_connections;  // by HTTP
    // See ControllerLoop::Options: on a thread of the controller's, must not block.
    std::function<void(const std::map<std::string, size_t>& ready)> on_ready;
    std::function<void(int32_t number, uint64_t link)> on_linked;
    std::function<void(const TellLost&)> on_lost;
  };

  // INVALID_ARGUMENT if the address is none, or of the file of keys or those of TLS; UNAVAILABLE
  // naming the address and the system's reason if it cannot be listened on; LedgerFile::Open's of
  // the ledger.
  static absl::StatusOr<std::unique_ptr<ControllerService>> Start(Options options);
  ~ControllerService();  // Stop(false)

  // "HOST:PORT" with the port that was taken.
  const std::string& address() const;
  const std::string& http_address() const;
  const std::string& admin_address() const;

  // No replica will come soon: see Controller::Outage.
  void Outage(const std::string& why);

  // Refuses new requests; returns once no other is under way, or after `most`.
  void Drain(Duration most);

  // Ends every request with UNAVAILABLE and sends the replicas home, or leaves them to redial.
  void Stop(bool stop_replicas);

 private:
  struct Impl;
  explicit ControllerService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
