// The HTTP server with bytes on sockets: what a client writes and what it reads.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <mutex>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trireme {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class Client {
 public:
  explicit Client(const HttpServer& server) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to = {.sin_family = AF_INET};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int port = 0;
    EXPECT_TRUE(ParseNumber(server.address().substr(server.address().rfind(':') + 1), &port));
    to.sin_port = htons(static_cast<uint16_t>(port));
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  ~Client() { Close(); }

  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

  void Write(const std::string& bytes) {
    ASSERT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  // Up to and with `end`, or to the end of the connection.
  std::string ReadUntil(const std::string& end) {
    char more[4096];
    while (true) {
      const size_t at = bytes_.find(end);
      if (!end.empty() && at != std::string::npos) {
        std::string found = bytes_.substr(0, at + end.size());
        bytes_.erase(0, at + end.size());
        return found;
      }
      const ssize_t n = recv(fd_, more, sizeof more, 0);
      if (n <= 0) return std::exchange(bytes_, "");
      bytes_.append(more, static_cast<size_t>(n));
    }
  }
  std::string ReadAll() { return ReadUntil(""); }

 private:
  int fd_ = -1;
  std::string bytes_;
};

std::unique_ptr<HttpServer> StartServer(HttpServer::Handler handler,
                                        HttpServer::Options options = {}) {
  auto server = HttpServer::Start(std::move(options), std::move(handler));
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

void Echo(HttpRequest request, std::shared_ptr<HttpReply> reply) {
  reply->Send({.content_type = "text/plain",
               .body = request.method + " " + request.path + " " + request.headers["x-name"] + " " +
                       request.body});
}

TEST(HttpServerTest, AnswersRequestsOfOneConnectionInTurn) {
  auto server = StartServer(Echo);
  Client client(*server);
  client.Write(
      "POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-Name: n\r\nContent-Length: 3\r\n\r\nxyz"
      "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");  // the second comes early
  EXPECT_THAT(client.ReadUntil("xyz"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(client.ReadUntil("GET /b  "), HasSubstr("Content-Length: 8"));
  client.Write("GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.ReadAll(), EndsWith("GET /c  "));  // and the end of the connection
}

TEST(HttpServerTest, RefusesWhatIsTooLargeOrNoHttp) {
  auto server = StartServer(Echo, {.max_header_bytes = 1000, .max_body_bytes = 10});
  const auto answer = [&](const std::string& bytes) {
    Client client(*server);
    client.Write(bytes);
    return client.ReadAll();
  };
  EXPECT_THAT(answer("POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n"), StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(answer("GET / HTTP/1.1\r\nX: " + std::string(2000, 'x')), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(answer("hello\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(answer("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), StartsWith("HTTP/1.1 400"));
}

TEST(HttpServerTest, InvitesTheBodyOfAClientThatWaitsForThat) {
  auto server = StartServer(Echo, {.max_body_bytes = 10});
  const std::string head = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: ";
  Client client(*server);
  client.Write(head + "3\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Write("xyz");
  EXPECT_THAT(client.ReadUntil("xyz"), StartsWith("HTTP/1.1 200 OK"));
  client.Write(head + "3\r\n\r\nabc");  // one that does not wait
  EXPECT_THAT(client.ReadUntil("abc"), StartsWith("HTTP/1.1 200 OK"));
  client.Write(head + "11\r\n\r\n");
  EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 413"));
}

TEST(HttpServerTest, ARequestThatDoesNotComeInTimeEndsItsConnection) {
  auto server = StartServer(Echo, {.header_timeout = std::chrono::milliseconds(20),
                                   .idle_timeout = std::chrono::milliseconds(20)});
  Client idle(*server);
  EXPECT_EQ(idle.ReadAll(), "");
  Client slow(*server);
  slow.Write("GET / HT");
  EXPECT_THAT(slow.ReadAll(), testing::AnyOf(StartsWith("HTTP/1.1 408"), ""));
}

// A stream of the chunks that the test gives.
struct Source {
  std::mutex mutex;
  std::vector<std::string> chunks;
  bool last = false;
  std::shared_ptr<HttpReply> reply;

  void Give(const std::string& chunk, bool is_last) {
    {
      std::lock_guard lock(mutex);
      if (!chunk.empty()) chunks.push_back(chunk);
      last = is_last;
    }
    reply->Wake();
  }
  HttpReply::Chunk Next() {
    std::lock_guard lock(mutex);
    HttpReply::Chunk chunk;
    for (const std::string& c : chunks) chunk.bytes += c;
    chunks.clear();
    chunk.last = last;
    return chunk;
  }
};

TEST(HttpServerTest, StreamsInChunksAndGoesOnWithTheNextRequest) {
  Source source;
  std::promise<void> started;
  auto server = StartServer([&](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path != "/stream") return Echo(std::move(request), std::move(reply));
    source.reply = reply;
    reply->Stream({.content_type = "text/event-stream"}, [&] { return source.Next(); });
    started.set_value();
  });
  Client client(*server);
  client.Write("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  started.get_future().wait();
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("Transfer-Encoding: chunked"));
  source.Give("one", false);
  EXPECT_EQ(client.ReadUntil("one\r\n"), "3\r\none\r\n");
  source.Give("twelve bytes", true);
  EXPECT_EQ(client.ReadUntil("0\r\n\r\n"), "c\r\ntwelve bytes\r\n0\r\n\r\n");
  client.Write("GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("GET /next"), StartsWith("HTTP/1.1 200"));
  source.reply.reset();
}

TEST(HttpServerTest, AClientThatGoesIsNoticedWhileItsAnswerIsMade) {
  std::promise<void> asked, gone;
  std::shared_ptr<HttpReply> kept;
  auto server = StartServer([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    reply->OnGone([&] { gone.set_value(); });
    kept = std::move(reply);
    asked.set_value();
  });
  Client client(*server);
  client.Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  asked.get_future().wait();
  client.Close();
  gone.get_future().wait();
  kept->Send({.body = "to nobody"});
  kept.reset();
}

TEST(HttpServerTest, AClientThatReadsNothingIsGivenUp) {
  std::promise<void> gone;
  const std::string much(1 << 20, 'x');
  auto server = StartServer(
      [&](HttpRequest, std::shared_ptr<HttpReply> reply) {
        reply->Stream({}, [&]() -> HttpReply::Chunk { return {much, false}; });
        reply->OnGone([&] { gone.set_value(); });
      },
      {.write_timeout = std::chrono::milliseconds(50)});
  Client client(*server);
  client.Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  gone.get_future().wait();
}

TEST(HttpServerTest, AnAddressThatIsTakenIsNamed) {
  auto server = StartServer(Echo);
  auto second = HttpServer::Start({.address = server->address()}, Echo);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(second.status()), HasSubstr(server->address()));
}

}  // namespace
}  // namespace trireme
