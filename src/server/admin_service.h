// What tells an operator's tools how the controller is, in plain text and without keys: no prompt
// is near.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server.h"
#include "server/controller_loop.h"
#include "server/http_server.h"
#include "server/metrics.h"

namespace trireme {

// Answers GET /live, /ready, /ready/MODEL and /health, which is /ready; false: it is none of them.
//   live:  the controller's loop turns, whatever replicas do; otherwise there is no answer
//   ready: a replica (of the model) is linked, which has then run a forward pass, and is not being
//          drained, nor is the controller; otherwise 503
bool AnswerProbe(ControllerLoop& loop, const HttpRequest& request,
                 const std::shared_ptr<HttpReply>& reply);

// Prometheus's text.
void AnswerMetrics(ControllerLoop& loop, const Metrics& metrics,
                   const std::shared_ptr<HttpReply>& reply);

// The probes and /metrics on an address of their own, and grpc.health.v1.Health on the same.
class AdminService {
 public:
  // The loop is to be stopped before this is destroyed: it may hold its answers.
  static absl::StatusOr<std::unique_ptr<AdminService>> Start(ControllerLoop& loop,
                                                             const Metrics& metrics,
                                                             const std::string& address);

  const std::string& address() const { return http_->address(); }

  // What Health answers; nothing is set at first.
  grpc::HealthCheckServiceInterface& health() { return *grpc_->GetHealthCheckService(); }

  // Closes every connection.
  void Stop();

 private:
  std::unique_ptr<grpc::Server> grpc_;  // listens nowhere: has what http_ hands on
  std::unique_ptr<HttpServer> http_;
};

}  // namespace trireme
