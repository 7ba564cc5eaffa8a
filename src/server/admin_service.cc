#include "server/admin_service.h"

#include <utility>

#include "nlohmann/json.hpp"

namespace trireme {

using Json = nlohmann::ordered_json;
using Reply = std::shared_ptr<HttpReply>;

bool AnswerProbe(ControllerLoop& loop, const HttpRequest& request, const Reply& reply) {
  if (request.method != "GET") return false;
  if (request.path == "/live") {
    loop.Look([reply](const Controller&) { reply->Send({.body = Json{{"live", true}}.dump()}); });
    return true;
  }
  if (request.path != "/ready" && request.path != "/health") return false;
  loop.Look([reply](const Controller& controller) {
    const size_t n_replicas = controller.replicas().size();
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
  ASSIGN_OR_RETURN(
      service->server_,
      HttpServer::Start({.address = address, .n_threads = 1, .max_body_bytes = 0},
                        [&loop, &metrics](HttpRequest request, Reply reply) {
                          if (AnswerProbe(loop, request, reply)) return;
                          if (request.method == "GET" && request.path == "/metrics") {
                            return AnswerMetrics(loop, metrics, reply);
                          }
                          reply->Send({.status = 404,
                                       .content_type = "text/plain",
                                       .body = "GET /live, /ready, /health or /metrics\n"});
                        }));
  return service;
}

}  // namespace trireme
