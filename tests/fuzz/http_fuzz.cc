// Any bytes on a connection of the HTTP server: it answers with HTTP or not at all, and the next
// connection is served.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "base/check.h"
#include "server/http_server.h"

namespace trireme {
namespace {

std::unique_ptr<HttpServer> StartServer() {
  auto server = HttpServer::Start(
      {.n_threads = 1, .max_header_bytes = 4096, .max_body_bytes = 4096},
      [](HttpRequest request, std::shared_ptr<HttpReply> reply) {
        reply->Send({.content_type = "text/plain", .body = request.path + " " + request.body});
      });
  CHECK(server.ok()) << Message(server.status());
  return *std::move(server);
}

// What comes back until the server closes the connection.
std::string Exchange(const HttpServer& server, const std::string& bytes) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = {.sin_family = AF_INET};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int port = 0;
  CHECK(ParseNumber(server.address().substr(server.address().rfind(':') + 1), &port));
  to.sin_port = htons(static_cast<uint16_t>(port));
  CHECK_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  // An end without lingering: an hour of runs does not use up the ports.
  const linger reset{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  shutdown(fd, SHUT_WR);
  std::string answer;
  char more[4096];
  for (ssize_t n; (n = recv(fd, more, sizeof more, 0)) > 0;) {
    answer.append(more, static_cast<size_t>(n));
  }
  close(fd);
  return answer;
}

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  static const auto server = StartServer();
  const std::string answer = Exchange(*server, {reinterpret_cast<const char*>(data), size});
  CHECK(answer.empty() || answer.starts_with("HTTP/1.")) << answer;
  return 0;
}
