// The HTTP server with bytes on sockets, plain or by TLS: what a client writes and what it reads.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <future>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "openssl/err.h"
#include "openssl/ssl.h"
#include "spdlog/sinks/base_sink.h"
#include "tests/server/certificates.h"

namespace trireme {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// An authority, and what it signed.
const test::Certificate& Authority() {
  static const test::Certificate made = test::MakeCertificate({.name = "authority"});
  return made;
}

class Client {
 public:
  // By TLS with `tls`, which does not verify the server; `shown`: the certificate for one that
  // asks.
  Client(const HttpServer& server, bool tls, const test::Certificate* shown = nullptr) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to = {.sin_family = AF_INET};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int port = 0;
    EXPECT_TRUE(ParseNumber(server.address().substr(server.address().rfind(':') + 1), &port));
    to.sin_port = htons(static_cast<uint16_t>(port));
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    if (tls) Handshake(shown);
  }
  ~Client() { Close(); }

  void Close() {
    if (ssl_ != nullptr) {
      SSL_shutdown(ssl_);
      SSL_free(std::exchange(ssl_, nullptr));
    }
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

  void Write(const std::string& bytes) { ASSERT_TRUE(Try(bytes)); }
  bool Try(const std::string& bytes) {
    const int size = static_cast<int>(bytes.size());
    return size == (ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), size)
                                    : send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL));
  }

  // Of what the server shows.
  std::string name() const {
    X509* certificate = SSL_get0_peer_certificate(ssl_);
    char name[100] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                              sizeof name);
    return name;
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
      const ssize_t n =
          ssl_ != nullptr ? SSL_read(ssl_, more, sizeof more) : recv(fd_, more, sizeof more, 0);
      if (n <= 0) return std::exchange(bytes_, "");
      bytes_.append(more, static_cast<size_t>(n));
    }
  }
  std::string ReadAll() { return ReadUntil(""); }
  size_t ReadSome(size_t most) {
    std::string more(most, '\0');
    const ssize_t n = ssl_ != nullptr ? SSL_read(ssl_, more.data(), static_cast<int>(most))
                                      : recv(fd_, more.data(), most, 0);
    return n > 0 ? static_cast<size_t>(n) : 0;
  }

 private:
  void Handshake(const test::Certificate* shown) {
    signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    if (shown != nullptr) {
      const std::string cert = test::TestFile("client.pem", shown->cert);
      const std::string key = test::TestFile("client.key", shown->key);
      EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context, cert.c_str()), 1);
      EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM), 1);
    }
    ssl_ = SSL_new(context);
    SSL_CTX_free(context);
    SSL_set_fd(ssl_, fd_);
    SSL_connect(ssl_);  // what is refused is told of with the first bytes
  }

  int fd_ = -1;
  SSL* ssl_ = nullptr;  // null: plain
  std::string bytes_;
};

class HttpServerTest : public testing::TestWithParam<bool> {
 protected:
  static bool tls() { return GetParam(); }

  static std::unique_ptr<HttpServer> StartServer(HttpServer::Handler handler,
                                                 HttpServer::Options options = {}) {
    if (tls() && options.tls == nullptr) {
      const auto own = test::MakeCertificate({.by = &Authority()});
      auto store = TlsStore::Open(
          {test::TestFile("server.pem", own.cert), test::TestFile("server.key", own.key)});
      EXPECT_TRUE(store.ok()) << store.status();
      options.tls = *std::move(store);
    }
    auto server = HttpServer::Start(std::move(options), std::move(handler));
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }
};
INSTANTIATE_TEST_SUITE_P(, HttpServerTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Tls" : "Plain"; });

void Echo(HttpRequest request, std::shared_ptr<HttpReply> reply) {
  reply->Send({.content_type = "text/plain",
               .body = request.method + " " + request.path + " " + request.headers["x-name"] + " " +
                       request.body});
}

TEST_P(HttpServerTest, AnswersRequestsOfOneConnectionInTurn) {
  auto server = StartServer(Echo);
  Client client(*server, tls());
  client.Write(
      "POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-Name: n\r\nContent-Length: 3\r\n\r\nxyz"
      "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");  // the second comes early
  EXPECT_THAT(client.ReadUntil("xyz"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(client.ReadUntil("GET /b  "), HasSubstr("Content-Length: 8"));
  client.Write("GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.ReadAll(), EndsWith("GET /c  "));  // and the end of the connection
}

TEST_P(HttpServerTest, LargeBodiesGoThereAndBack) {
  auto server = StartServer([](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    reply->Send({.body = std::move(request.body)});
  });
  std::string body(1'000'000, 'x');  // many records of TLS
  for (size_t i = 0; i < body.size(); i += 7) body[i] = static_cast<char>('a' + i % 26);
  body += "END";
  Client client(*server, tls());
  client.Write(StrCat("POST / HTTP/1.1\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(client.ReadUntil("END") == body);
  client.Write("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 200"));
}

TEST_P(HttpServerTest, RefusesWhatIsTooLargeOrNoHttp) {
  auto server = StartServer(Echo, {.max_header_bytes = 1000, .max_body_bytes = 10});
  const auto answer = [&](const std::string& bytes) {
    Client client(*server, tls());
    client.Write(bytes);
    return client.ReadAll();
  };
  EXPECT_THAT(answer("POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n"), StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(answer("GET / HTTP/1.1\r\nX: " + std::string(2000, 'x')), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(answer("hello\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(answer("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), StartsWith("HTTP/1.1 400"));
}

TEST_P(HttpServerTest, InvitesTheBodyOfAClientThatWaitsForThat) {
  auto server = StartServer(Echo, {.max_body_bytes = 10});
  const std::string head = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: ";
  Client client(*server, tls());
  client.Write(head + "3\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Write("xyz");
  EXPECT_THAT(client.ReadUntil("xyz"), StartsWith("HTTP/1.1 200 OK"));
  client.Write(head + "3\r\n\r\nabc");  // one that does not wait
  EXPECT_THAT(client.ReadUntil("abc"), StartsWith("HTTP/1.1 200 OK"));
  client.Write(head + "11\r\n\r\n");
  EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 413"));
}

TEST_P(HttpServerTest, ARequestThatDoesNotComeInTimeEndsItsConnection) {
  auto server = StartServer(Echo, {.header_timeout = std::chrono::milliseconds(20),
                                   .idle_timeout = std::chrono::milliseconds(20)});
  Client idle(*server, tls());
  EXPECT_EQ(idle.ReadAll(), "");
  Client slow(*server, tls());
  slow.Write("GET / HT");
  EXPECT_THAT(slow.ReadAll(), testing::AnyOf(StartsWith("HTTP/1.1 408"), ""));
}

TEST_P(HttpServerTest, AConnectionThatItsClientClosesIsNotKept) {
  auto server = StartServer(Echo, {.max_connections = 1});
  const std::string request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
  {
    Client client(*server, tls());
    client.Write(request);
    EXPECT_THAT(client.ReadUntil("GET /a"), StartsWith("HTTP/1.1 200"));
  }
  std::string answer;
  while (answer.empty()) {  // turned away while the first is still there
    Client client(*server, tls());
    answer = client.Try(request) ? client.ReadUntil("GET /a") : "";
  }
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
}

// Holds the log's lines while it lives, beginning before the server's threads.
class LogLines {
 public:
  LogLines() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink_));
  }
  ~LogLines() { spdlog::set_default_logger(before_); }

  int Count(const std::string& part) {
    std::lock_guard lock(sink_->mutex);
    return static_cast<int>(std::ranges::count_if(
        sink_->lines, [&](const std::string& line) { return line.find(part) != line.npos; }));
  }

 private:
  struct Sink : spdlog::sinks::base_sink<spdlog::details::null_mutex> {
    void sink_it_(const spdlog::details::log_msg& message) override {
      std::lock_guard lock(mutex);
      lines.emplace_back(message.payload.begin(), message.payload.end());
    }
    void flush_() override {}
    std::mutex mutex;
    std::vector<std::string> lines ABSL_GUARDED_BY(mutex);
  };
  const std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
  const std::shared_ptr<spdlog::logger> before_;
};

// Seconds of a processor that this process has taken.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

TEST_P(HttpServerTest, WithoutAFileDescriptorWhoDialsWaitsAndNothingSpins) {
  LogLines log;
  auto server = StartServer(Echo);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(0);
  close(next);
  const rlimit room_for_one{static_cast<rlim_t>(next) + 1, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &room_for_one), 0);
  auto client = std::make_unique<Client>(*server, /*tls=*/false);  // the one
  while (log.Count("takes no HTTP connections") == 0) std::this_thread::yield();
  const double cpu = CpuSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // some attempts
  EXPECT_LT(CpuSeconds() - cpu, 0.1);
  EXPECT_EQ(log.Count("takes no HTTP connections for now: Too many open files; raise"), 1);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  if (tls()) client = std::make_unique<Client>(*server, /*tls=*/true);
  client->Write("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client->ReadAll(), StartsWith("HTTP/1.1 200"));
}

TEST_P(HttpServerTest, ConnectionsBeyondItsMostAreClosedAndTheLogSaysSoOnce) {
  LogLines log;
  auto server = StartServer(Echo, {.max_connections = 1});
  Client first(*server, tls());
  first.Write("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(first.ReadUntil("GET /a"), StartsWith("HTTP/1.1 200"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Client(*server, /*tls=*/false).ReadAll(), "");
  }
  EXPECT_EQ(log.Count("has 1 HTTP connections, as many as it takes (--max-connections)"), 1);
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

TEST_P(HttpServerTest, StreamsInChunksAndGoesOnWithTheNextRequest) {
  Source source;
  std::promise<void> started;
  auto server = StartServer([&](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path != "/stream") return Echo(std::move(request), std::move(reply));
    source.reply = reply;
    reply->Stream({.content_type = "text/event-stream"}, [&] { return source.Next(); });
    started.set_value();
  });
  Client client(*server, tls());
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

TEST_P(HttpServerTest, StreamsToHttp10UntilTheConnectionEnds) {
  Source source;
  std::promise<void> started;
  auto server = StartServer([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    source.reply = reply;
    reply->Stream({.content_type = "text/event-stream"}, [&] { return source.Next(); });
    started.set_value();
  });
  Client client(*server, tls());
  client.Write("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  started.get_future().wait();
  const std::string head = client.ReadUntil("\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.0 200"));
  EXPECT_THAT(head, testing::Not(HasSubstr("chunked")));
  EXPECT_THAT(head, testing::Not(HasSubstr("keep-alive")));
  source.Give("one", false);
  EXPECT_EQ(client.ReadUntil("one"), "one");
  source.Give("", false);
  source.Give("two", true);
  EXPECT_EQ(client.ReadAll(), "two");
  source.reply.reset();
}

// Answers 401 to whoever sends no X-Name, else whatever the error is.
void RefuseAs(const HttpRequest&, const absl::Status& why,
              const std::shared_ptr<HttpReply>& reply) {
  reply->Send({.status = absl::IsUnauthenticated(why) ? 401 : 429, .body = Message(why)});
}

TEST_P(HttpServerTest, NoBodyIsReadOfOneThatIsNotAdmitted) {
  const auto admit = [](const HttpRequest& head) {
    return head.headers.contains("x-name") ? absl::OkStatus() : absl::UnauthenticatedError("who?");
  };
  auto server = StartServer(Echo, {.admit = admit, .refuse = RefuseAs});
  const std::string length = "Content-Length: 20000000\r\n";
  Client stranger(*server, tls());
  stranger.Write("POST / HTTP/1.1\r\nHost: h\r\n" + length + "\r\n");
  EXPECT_THAT(stranger.ReadAll(), testing::AllOf(StartsWith("HTTP/1.1 401"), EndsWith("who?"),
                                                 HasSubstr("Connection: close")));
  Client waiting(*server, tls());
  waiting.Write("POST / HTTP/1.1\r\nExpect: 100-continue\r\n" + length + "\r\n");
  EXPECT_THAT(waiting.ReadAll(), StartsWith("HTTP/1.1 401"));
  Client hasty(*server, tls());  // it reads its answer nevertheless
  hasty.Write("POST / HTTP/1.1\r\n" + length + "\r\n");
  for (int i = 0; i < 20; ++i) hasty.Write(std::string(1'000'000, 'x'));
  EXPECT_THAT(hasty.ReadAll(), StartsWith("HTTP/1.1 401"));
  Client known(*server, tls());
  known.Write("POST / HTTP/1.1\r\nX-Name: n\r\nContent-Length: 3\r\n\r\nxyz");
  EXPECT_THAT(known.ReadUntil("xyz"), StartsWith("HTTP/1.1 200"));
  known.Write("GET /a HTTP/1.1\r\n\r\n");  // without a body the handler decides
  EXPECT_THAT(known.ReadUntil("GET /a"), StartsWith("HTTP/1.1 200"));
}

TEST_P(HttpServerTest, BodiesShareTheBytesThatTheyMayTake) {
  std::mutex mutex;
  std::vector<HttpRequest> kept;
  const auto keep = [&](HttpRequest request, const std::shared_ptr<HttpReply>& reply) {
    const std::string path = request.path;
    {
      std::lock_guard lock(mutex);
      kept.push_back(std::move(request));
    }
    reply->Send({.body = path});
  };
  const auto let_go = [&] {
    std::lock_guard lock(mutex);
    kept.clear();
  };
  constexpr size_t kBytes = 300'000;
  auto server = StartServer(keep, {.max_bodies_bytes = kBytes + 10, .refuse = RefuseAs});
  const auto head = [](size_t n_bytes) {
    return StrCat("POST /b HTTP/1.1\r\nContent-Length: ", n_bytes, "\r\n\r\n");
  };
  const auto answer = [&](size_t n_bytes) {
    Client client(*server, tls());
    client.Write(head(n_bytes) + std::string(n_bytes, 'x'));
    return client.ReadUntil("/b");
  };
  Client idle(*server, tls());
  idle.Write(head(kBytes));  // who only announces a body takes no room from others
  EXPECT_THAT(answer(200'000), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer(200'000),  // before it is read, and it is read nevertheless
              testing::AllOf(StartsWith("HTTP/1.1 429"), HasSubstr("300010 bytes")));
  let_go();
  idle.Close();
  while (!answer(kBytes).starts_with("HTTP/1.1 200")) {  // until that is noticed
  }
  EXPECT_THAT(answer(11), StartsWith("HTTP/1.1 429"));
  EXPECT_THAT(answer(10), StartsWith("HTTP/1.1 200"));
  let_go();
  EXPECT_THAT(answer(11), StartsWith("HTTP/1.1 200"));

  // Without a length, as far as it goes.
  Client chunks(*server, tls());
  chunks.Write("POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  EXPECT_THAT(chunks.ReadUntil("/b"), StartsWith("HTTP/1.1 200"));
  Client many(*server, tls());
  many.Write(StrCat("POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n61a80\r\n",
                    std::string(0x61a80, 'x')));
  EXPECT_THAT(many.ReadAll(), StartsWith("HTTP/1.1 429"));
}

TEST_P(HttpServerTest, AClientThatGoesIsNoticedWhileItsAnswerIsMade) {
  std::promise<void> asked, gone;
  std::shared_ptr<HttpReply> kept;
  auto server = StartServer([&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    reply->OnGone([&] { gone.set_value(); });
    kept = std::move(reply);
    asked.set_value();
  });
  Client client(*server, tls());
  client.Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  asked.get_future().wait();
  client.Close();
  gone.get_future().wait();
  kept->Send({.body = "to nobody"});
  kept.reset();
}

TEST_P(HttpServerTest, AClientThatReadsNothingIsGivenUp) {
  std::promise<void> gone;
  const std::string much(1 << 20, 'x');
  auto server = StartServer(
      [&](HttpRequest, std::shared_ptr<HttpReply> reply) {
        reply->Stream({}, [&]() -> HttpReply::Chunk { return {much, false}; });
        reply->OnGone([&] { gone.set_value(); });
      },
      {.write_timeout = std::chrono::milliseconds(50)});
  Client client(*server, tls());
  client.Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  gone.get_future().wait();
}

TEST_P(HttpServerTest, WhoReadsSlowlyHasTimeForEachPieceOfALongAnswer) {
  const std::string much(16 << 20, 'x');
  auto server = StartServer([&](HttpRequest, auto reply) { reply->Send({.body = much}); },
                            {.write_timeout = std::chrono::milliseconds(2000)});
  Client client(*server, tls());
  client.Write("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const auto start = std::chrono::steady_clock::now();
  size_t n_read = 0;
  while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(2500)) {
    n_read += client.ReadSome(16 << 10);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_GT(n_read + client.ReadAll().size(), much.size());
}

TEST_P(HttpServerTest, NothingIsKeptOfAnAnswerThatHasEnded) {
  std::shared_ptr<HttpReply> first;
  auto server = StartServer(
      [&](HttpRequest, std::shared_ptr<HttpReply> reply) {
        reply->Send({.body = "short"});
        if (first == nullptr) first = std::move(reply);
      },
      {.n_threads = 1});
  const auto ask = [&] {
    Client client(*server, tls());
    client.Write("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    EXPECT_THAT(client.ReadAll(), EndsWith("short"));
  };
  ask();
  auto kept = std::make_shared<int>();
  first->OnGone([kept, reply = first] {});
  ask();  // what was said before has been heard
  first.reset();
  server.reset();
  EXPECT_EQ(kept.use_count(), 1);
}

TEST_P(HttpServerTest, FinishAwaitsAnswersUnderWay) {
  std::promise<std::shared_ptr<HttpReply>> asked;
  auto server = StartServer(
      [&](HttpRequest, std::shared_ptr<HttpReply> reply) { asked.set_value(std::move(reply)); });
  Client client(*server, tls());
  client.Write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  auto reply = asked.get_future().get();
  server->Finish(std::chrono::milliseconds(1));  // not yet
  auto finished = std::async(std::launch::async, [&] { server->Finish(std::chrono::hours(1)); });
  reply->Send({.body = "the end"});
  reply.reset();
  finished.get();
  EXPECT_THAT(client.ReadUntil("the end"), EndsWith("the end"));
}

TEST_P(HttpServerTest, AnAddressThatIsTakenIsNamed) {
  auto server = StartServer(Echo);
  auto second = HttpServer::Start({.address = server->address()}, Echo);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(second.status()), HasSubstr(server->address()));
}

TEST(HttpServerTlsTest, OnlyCertificatesOfTheAuthorityAreLetIn) {
  const auto own = test::MakeCertificate({.by = &Authority()});
  auto store =
      TlsStore::Open({test::TestFile("server.pem", own.cert), test::TestFile("server.key", own.key),
                      test::TestFile("ca.pem", Authority().cert)});
  ASSERT_TRUE(store.ok()) << store.status();
  auto server = *HttpServer::Start({.tls = *store}, Echo);
  const auto answer = [&](const test::Certificate* shown) {
    Client client(*server, /*tls=*/true, shown);
    client.Write("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
    return client.ReadAll();
  };
  const auto known = test::MakeCertificate({.by = &Authority(), .client = true});
  const auto stranger_ca = test::MakeCertificate({.name = "authority"});
  const auto stranger = test::MakeCertificate({.by = &stranger_ca, .client = true});
  const auto expired = test::MakeCertificate({.by = &Authority(), .client = true, .valid_s = -60});
  EXPECT_THAT(answer(&known), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(answer(nullptr), "");
  EXPECT_EQ(answer(&stranger), "");
  EXPECT_EQ(answer(&expired), "");
}

TEST(HttpServerTlsTest, NewConnectionsAreShownTheCertificateOfNow) {
  const auto first = test::MakeCertificate({.name = "first", .by = &Authority()});
  const auto second = test::MakeCertificate({.name = "second", .by = &Authority()});
  const TlsFiles files{test::TestFile("server.pem", first.cert),
                       test::TestFile("server.key", first.key)};
  auto server = *HttpServer::Start({.tls = *TlsStore::Open(files)}, Echo);
  Client before(*server, /*tls=*/true);
  EXPECT_EQ(before.name(), "first");
  test::TestFile("server.pem", second.cert);
  test::TestFile("server.key", second.key);
  EXPECT_EQ(Client(*server, /*tls=*/true).name(), "second");
  before.Write("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(before.ReadAll(), StartsWith("HTTP/1.1 200"));
}

// Nor does a client that speaks no TLS hold the connection.
TEST(HttpServerTlsTest, AHandshakeThatDoesNotComeInTimeEndsItsConnection) {
  const auto own = test::MakeCertificate({.by = &Authority()});
  auto store = TlsStore::Open(
      {test::TestFile("server.pem", own.cert), test::TestFile("server.key", own.key)});
  auto server =
      *HttpServer::Start({.tls = *store, .header_timeout = std::chrono::milliseconds(20)}, Echo);
  EXPECT_EQ(Client(*server, /*tls=*/false).ReadAll(), "");
  Client plain(*server, /*tls=*/false);
  plain.Write("GET / HTTP/1.1\r\n\r\n");
  EXPECT_THAT(plain.ReadAll(), testing::Not(HasSubstr("HTTP")));
}

}  // namespace
}  // namespace trireme
