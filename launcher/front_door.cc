#include "launcher/front_door.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "comm/end_job.h"
#include "launcher/flags.h"
#include "launcher/validators.h"
#include "launcher/version.h"
#include "server/listen_address.h"

namespace trireme {
namespace {

// Of so many files that may be open, those that HTTP clients may take. Others are for gRPC's
// clients, whose port would be dead without, for replicas and the ledger.
size_t WithoutReserve(size_t n_files) { return n_files - std::min<size_t>(n_files / 4, 1000); }

}  // namespace

void FrontDoor::AddFlags(CLI::App& app) {
  app.add_option("--grpc-addr", grpc_addr_, "where clients and replicas dial; port 0: any")
      ->transform(ListenAddress())
      ->type_name("HOST:PORT");
  app.add_option("--http-addr", http_addr_,
                 "where HTTP clients dial, with OpenAI's API; default: there is none")
      ->transform(ListenAddress())
      ->type_name("HOST:PORT");
  app.add_option(
         "--admin-addr", admin_addr_,
         "where probes (/live, /ready) and /metrics are answered by HTTP, in plain text and "
         "without keys; default: there is none")
      ->transform(ListenAddress())
      ->type_name("HOST:PORT");
  app.add_option(
         "--api-keys", api_keys_,
         "a file of lines `TENANT SHA256-OF-THE-KEY [admin] [weight=X] [max-requests=N]`, as "
         "`trireme key` prints them; "
         "without it nobody is asked for a key")
      ->type_name("FILE");
  app.add_option("--tls-cert", tls_.cert,
                 "listen by TLS with this certificate, and those up to an authority's (PEM); the "
                 "files are read again when they change")
      ->type_name("FILE");
  app.add_option("--tls-key", tls_.key, "its key")->type_name("FILE");
  app.add_option("--tls-client-ca", tls_.ca,
                 "whoever dials, replicas too, must show a certificate of these authorities (PEM)")
      ->type_name("FILE");
  AddReplicaSecret(app, &replica_secret_);
  app.add_flag("--insecure", insecure_,
               "listen beyond this host without TLS or keys: whoever reaches the port may ask, and "
               "whoever sees the network sees prompts");
  app.add_option("--max-requests", max_requests_,
                 "that run or wait at a time, each choice counted; more are refused")
      ->transform(AtLeast(1))
      ->type_name("N");
  app.add_option("--max-ledger-bytes", max_ledger_bytes_,
                 "that prompts and answers of these requests may take; more are refused")
      ->transform(Whole<uint64_t>(1))
      ->type_name("BYTES");
  app.add_option(
         "--max-connections", max_connections_,
         "of HTTP clients at a time, as far as the limit of open files (ulimit -n) has room "
         "for them; more are closed at once")
      ->transform(AtLeast(1))
      ->type_name("N");
  app.add_option("--ledger-dir", ledger_dir_,
                 "a directory for what a controller that is started again has to know of the "
                 "requests under way; default: they end with this process")
      ->type_name("DIR");
  app.add_option("--replica-timeout", replica_timeout_s_,
                 "a replica of which nothing is heard for so long is lost, and its requests go on "
                 "elsewhere; it, too, gives a controller up that is as silent")
      ->transform(Seconds())
      ->type_name("TIME");
  app.add_option("--write-timeout", write_timeout_s_,
                 "a client that reads nothing of its stream for so long is given up")
      ->transform(Seconds())
      ->type_name("TIME");
  app.add_option("--drain-timeout", drain_timeout_s_,
                 "at SIGTERM and SIGINT, requests under way have so long to end, and new ones are "
                 "refused; a second signal ends everything at once")
      ->transform(Seconds(/*or_none=*/true))
      ->type_name("TIME");
  app.add_option("--metrics-compat", metrics_compat_,
                 "vllm: in /metrics what vLLM has, too, has its prefix, vllm:, instead of trireme_")
      ->check(OneOf({"trireme", "vllm"}))
      ->type_name("NAME");
  app.add_option("--otlp-endpoint", otlp_endpoint_,
                 "a collector of OpenTelemetry that is told of each request's spans, by OTLP over "
                 "HTTP in JSON; default: there is none")
      ->check(HttpUrlFlag())
      ->type_name("http://HOST:PORT");
  AddLog(app, &log_);
}

absl::Status FrontDoor::Check(bool draws_secret) const {
  if (tls_.cert.empty() != tls_.key.empty()) {
    return InvalidArgument("--tls-cert and --tls-key are given together");
  }
  if (!tls_.ca.empty() && tls_.cert.empty()) {
    return InvalidArgument("--tls-client-ca needs a server with --tls-cert");
  }
  if (insecure_) return absl::OkStatus();
  if (!IsLoopback(grpc_addr_) && !draws_secret && replica_secret_.empty() && tls_.ca.empty()) {
    return InvalidArgument(
        "--grpc-addr ", grpc_addr_,
        ": other hosts can dial it, and whoever does could join as a replica and see prompts; give "
        "--replica-secret, or --tls-client-ca, or --insecure if you trust the network");
  }
  if (!tls_.cert.empty() || !api_keys_.empty()) return absl::OkStatus();
  for (const auto& [flag, address] :
       {std::pair("--grpc-addr ", &grpc_addr_), {"--http-addr ", &http_addr_}}) {
    if (address->empty() || IsLoopback(*address)) continue;
    return InvalidArgument(
        flag, *address,
        ": other hosts can dial it; give --tls-cert and --tls-key, or --api-keys, "
        "or --insecure if you trust the network, or an address such as "
        "127.0.0.1:8070");
  }
  return absl::OkStatus();
}

absl::Status FrontDoor::Open(const std::string& what, Replicas replicas) {
  InitLog({.role = "controller"}, log_);
  const size_t most_connections = WithoutReserve(RaiseOpenFileLimit());
  if (max_connections_ > most_connections) {
    spdlog::log(max_connections_ == ControllerService::Options().max_connections
                    ? spdlog::level::debug
                    : spdlog::level::warn,
                "--max-connections {}: the limit of open files (ulimit -n) has room for {}",
                max_connections_, most_connections);
    max_connections_ = most_connections;
  }
  interruption_.emplace();  // before other threads
  interruption_->Becomes([this] { Fail(absl::OkStatus()); });
  ControllerService::Options options;
  options.address = grpc_addr_;
  options.http_address = http_addr_;
  options.admin_address = admin_addr_;
  options.tls = tls_;
  options.api_keys = api_keys_;
  options.replica_secret = replica_secret_;
  options.ledger_dir = ledger_dir_;
  options.core.max_requests = max_requests_;
  options.core.max_ledger_bytes = max_ledger_bytes_;
  options.max_connections = max_connections_;
  options.write_timeout = FromSeconds(write_timeout_s_);
  options.version = Version();
  options.otlp_endpoint = otlp_endpoint_;
  if (metrics_compat_ == "vllm") options.metrics_prefix = "vllm:";
  options.core.replica_timeout = std::min(FromSeconds(replica_timeout_s_), replicas.silence);
  options.core.heartbeat_interval =
      std::min(options.core.heartbeat_interval, options.core.replica_timeout / 4);
  options.on_linked = std::move(replicas.on_linked);
  options.on_lost = std::move(replicas.on_lost);
  options.on_ready = [this, what](const std::map<std::string, size_t>& ready) {
    absl::MutexLock lock(&mutex_);
    if (ready_ || std::ranges::all_of(ready, [](const auto& m) { return m.second == 0; })) return;
    ready_ = true;
    std::printf("ready %s\n", what.c_str());
    std::fflush(stdout);
  };
  ASSIGN_OR_RETURN(service_, ControllerService::Start(options));
  std::printf("listening %s\n", address().c_str());
  if (!http_addr_.empty()) std::printf("http %s\n", service_->http_address().c_str());
  if (!admin_addr_.empty()) std::printf("admin %s\n", service_->admin_address().c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status FrontDoor::Wait() {
  absl::MutexLock lock(&mutex_);
  const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return end_.has_value(); };
  mutex_.Await(absl::Condition(&ended));
  return *end_;
}

void FrontDoor::Fail(absl::Status why) {
  absl::MutexLock lock(&mutex_);
  if (!end_) end_ = std::move(why);
}

std::string DialAddress(const std::string& address, bool other_hosts) {
  const size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  if (host != "0.0.0.0" && host != "[::]" && host != "::" && !host.empty()) return address;
  return (other_hosts ? HostName() : "127.0.0.1") + address.substr(colon);
}

}  // namespace trireme
