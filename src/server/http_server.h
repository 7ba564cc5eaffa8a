// An HTTP/1.1 server: connections, keep-alive, limits, streamed answers. What a request means is
// the handler's. (Boost.Beast underneath, in http_server.cc and http_stream.h alone.)
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "server/byte_budget.h"
#include "server/tls.h"

namespace trireme {

struct HttpRequest {
  std::string method;                          // GET, POST, …
  std::string path;                            // without the query
  std::string peer;                            // ADDRESS:PORT of the client
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::shared_ptr<const ByteShare> share;  // that the body has of max_bodies_bytes; null: no body
};

struct HttpAnswer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;  // beside Content-Type and what HTTP itself needs
};

// The answer to one request, given once: Send, or Stream. Every call may come from any thread; what
// comes after the client has gone goes nowhere.
class HttpReply {
 public:
  virtual ~HttpReply() = default;

  virtual void Send(HttpAnswer answer) = 0;

  // An answer in chunks. `next` is called, on the server's threads and one call at a time, whenever
  // the client can take more: it gives bytes, or nothing at the moment (then Wake() must follow
  // when there is more), or says that this was the last. `answer.body` is empty.
  struct Chunk {
    std::string bytes;
    bool last = false;
  };
  virtual void Stream(HttpAnswer answer, std::function<Chunk()> next) = 0;
  virtual void Wake() = 0;

  // Called once if the client goes away before it has the whole answer; at once if it has gone.
  virtual void OnGone(std::function<void()> gone) = 0;
};

class HttpServer {
 public:
  struct Options {
    std::string address = "127.0.0.1:0";  // HOST:PORT; port 0: any that is free
    int n_threads = 2;
    size_t max_connections = 20000;                   // beyond, new ones are closed at once
    size_t max_header_bytes = 64u << 10;              // beyond: 431
    size_t max_body_bytes = 32u << 20;                // beyond: 413
    size_t max_bodies_bytes = 256u << 20;             // of all HttpRequests there are; beyond: 429
    std::shared_ptr<TlsStore> tls;                    // null: plain HTTP
    std::chrono::milliseconds header_timeout{10000};  // from a request's first byte to its last
    std::chrono::milliseconds idle_timeout{75000};    // between requests of a connection
    std::chrono::nanoseconds write_timeout{30'000'000'000};  // for one that a client does not read
    // Asked before a body is read, with what comes before it: an error refuses the request. Null:
    // nothing is refused so. Like the handler, it must not block.
    std::function<absl::Status(const HttpRequest& head)> admit;
    // Answers a request whose body is not read, by `admit` or because others take too much
    // (RESOURCE_EXHAUSTED). Its connection ends with that. Null: 429.
    std::function<void(const HttpRequest& head, const absl::Status& why,
                       std::shared_ptr<HttpReply> reply)>
        refuse;
    // Told of requests that come to no handler, with the status of their answer.
    std::function<void(int status)> on_refused;
    // Takes over a connection without TLS that begins as HTTP/2's do, all of it still to be read,
    // on a thread of the server's; null: it is answered that this is no HTTP/1.1.
    std::function<void(int fd)> on_http2;
  };
  // Called on the server's threads; must not block.
  using Handler = std::function<void(HttpRequest request, std::shared_ptr<HttpReply> reply)>;

  // INVALID_ARGUMENT if the address is none, UNAVAILABLE if it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(Options options, Handler handler);
  ~HttpServer();  // Stop()

  const std::string& address() const;  // with the port that was taken

  size_t n_connections() const;  // that are open

  // Returns once no answer is under way, or after `most`.
  void Finish(std::chrono::milliseconds most);

  // Closes every connection; the handler is not called any more.
  void Stop();

  struct Impl;

 private:
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
