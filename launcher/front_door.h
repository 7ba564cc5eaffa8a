// The controller's process, in what `serve` and `controller` share.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/synchronization/mutex.h"
#include "base/log.h"
#include "launcher/signals.h"
#include "server/controller_service.h"

namespace trireme {

// Prints `listening HOST:PORT` on stdout, `http HOST:PORT` and `admin HOST:PORT` where it does
// that, and `ready WHAT` once the first replica is linked, for scripts that wait for them. Runs
// until SIGINT or SIGTERM, or until Fail().
class FrontDoor {
 public:
  void AddFlags(CLI::App& app);

  // How the controller looks at replicas, and whom it tells of those with a number.
  struct Replicas {
    Duration silence = Duration::max();  // after which one is lost, if --replica-timeout is longer
    std::function<void(int32_t number, uint64_t link)> on_linked;
    std::function<void(const TellLost&)> on_lost;
  };

  // INVALID_ARGUMENT for an address beyond this host without TLS, keys or --insecure; likewise
  // where anybody could join as a replica, unless `draws_secret`: whoever starts them has one for
  // them.
  absl::Status Check(bool draws_secret) const;

  // `what`: said in the ready line. UNAVAILABLE if the address cannot be listened on.
  absl::Status Open(const std::string& what, Replicas replicas);
  absl::Status Wait();
  void Fail(absl::Status why);  // from any thread: Wait() returns it

  // No replica will come soon; from any thread.
  void Outage(const std::string& why) { service_->Outage(why); }

  // After Wait: lets requests end for --drain-timeout.
  void Drain() { service_->Drain(FromSeconds(drain_timeout_s_)); }

  // Ends every request; replicas leave, or keep their weights and look for the next controller.
  void Close(bool stop_replicas) { service_->Stop(stop_replicas); }

  const std::string& address() const { return service_->address(); }
  const LogOptions& log() const { return log_; }

  const TlsFiles& tls() const { return tls_; }

  // What replicas have to know; empty: nothing.
  const std::string& replica_secret() const { return replica_secret_; }
  void set_replica_secret(std::string secret) { replica_secret_ = std::move(secret); }

 private:
  std::string grpc_addr_ = "127.0.0.1:8070";
  std::string http_addr_;
  std::string admin_addr_;
  std::string metrics_compat_ = "trireme";
  std::string otlp_endpoint_;
  std::string api_keys_;
  TlsFiles tls_;
  std::string replica_secret_;
  std::string ledger_dir_;
  size_t max_requests_ = ControllerOptions().max_requests;
  size_t max_ledger_bytes_ = ControllerOptions().max_ledger_bytes;
  size_t max_connections_ = ControllerService::Options().max_connections;
  double replica_timeout_s_ = Seconds(ControllerOptions().replica_timeout);
  double drain_timeout_s_ = 25;  // Kubernetes kills after 30
  double write_timeout_s_ = Seconds(ControllerService::Options().write_timeout);
  bool insecure_ = false;
  LogOptions log_;
  absl::Mutex mutex_;
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  std::optional<Interruption> interruption_;
  std::unique_ptr<ControllerService> service_;
};

// Where replicas dial a controller that listens on `address`: a wildcard becomes this host's name
// if they may run on others, else the loopback address.
std::string DialAddress(const std::string& address, bool other_hosts);

}  // namespace trireme
