#include "server/admin_service.h"

#include <chrono>
#include <utility>

#include "grpcpp/server_builder.h"
#include "grpcpp/server_posix.h"
#include "nlohmann/json.hpp"

namespace trireme {

namespace {

constexpr int kIdleTimeoutMs = 75000;  // of a connection by gRPC, as HttpServer's are

}  // namespace

using Json = nlohmann::ordered_json;
using Reply = std::shared_ptr<HttpReply>;

bool AnswerProbe(ControllerLoop& loop, const HttpRequest& request, const Reply& reply) {
  if (request.method != "GET") return false;
  if (request.path == "/live") {
    loop.Look([reply](const Controller&) { reply->Send({.body = Json{{"live", true}}.dump()}); });
    return true;
  }
  const std::string of_model = "/ready/";
  std::string model;
  if (request.path.starts_with(of_model)) {
    model = request.path.substr(of_model.size());
  } else if (request.path != "/ready" && request.path != "/health") {
    return false;
  }
  loop.Look([reply, model](const Controller& controller) {
    size_t n_replicas = 0;
    for (const auto& [name, n] : controller.ReadyReplicas()) {
      if (model.empty() || name == model) n_replicas += n;
    }
    reply->Send({.status = n_replicas > 0 ? 200 : 503,
                 .body = Json{{"ready", n_replicas > 0}, {"replicas", n_replicas}}.dump()});
  });
  return true;
}

void AnswerMetrics(ControllerLoop& loop, const Metrics& metrics, const Reply& reply) {
  loop.Look([&metrics, reply](const Controller& controller) {
    reply->Send({.content_type = "text/plain; version=0.0.4; charset=utf-8",
                 .body = metrics.Render(controller)});
  });
}

absl::StatusOr<std::unique_ptr<AdminService>> AdminService::Start(ControllerLoop& loop,
                                                                  const Metrics& metrics,
                                                                  const std::string& address) {
  auto service = std::make_unique<AdminService>();
  grpc::EnableDefaultHealthCheckService(true);
  service->grpc_ = grpc::ServerBuilder()
                       .AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleTimeoutMs)
                       .BuildAndStart();
  auto answer = [&loop, &metrics](const HttpRequest& request, const Reply& reply) {
    if (AnswerProbe(loop, request, reply)) return;
    if (request.method == "GET" && request.path == "/metrics") {
      return AnswerMetrics(loop, metrics, reply);
    }
    reply->Send(
        {.status = 404,
         .content_type = "text/plain",
         .body = "GET /live, /ready, /health or /metrics; or gRPC's grpc.health.v1.Health\n"});
  };
  ASSIGN_OR_RETURN(service->http_, HttpServer::Start({.address = address,
                                                      .n_threads = 1,
                                                      .max_connections = 100,
                                                      .max_body_bytes = 0,
                                                      .on_http2 =
                                                          [server = service->grpc_.get()](int fd) {
                                                            AddInsecureChannelFromFd(server, fd);
                                                          }},
                                                     answer));
  return service;
}

void AdminService::Stop() {
  http_->Stop();
  grpc_->Shutdown(std::chrono::system_clock::now());
}

}  // namespace trireme
