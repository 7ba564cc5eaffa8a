#include "server/http_server.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/check.h"
#include "base/log.h"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/strand.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"
#include "server/episodes.h"
#include "server/http_stream.h"
#include "server/listen_address.h"

namespace trireme {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds kPause{100};  // in accepting, after an error

// All but its body.
HttpRequest HeadOf(const http::request<http::string_body>& message) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string target(message.target());
  request.path = target.substr(0, target.find('?'));
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    request.headers.emplace(std::move(name), std::string(field.value()));
  }
  return request;
}

}  // namespace

class HttpConnection;

struct HttpServer::Impl {
  // An answer is under way.
  class Answering {
   public:
    explicit Answering(Impl& server) : server_(server) {
      std::lock_guard lock(server_.mutex);
      ++server_.n_answering;
    }
    ~Answering() {
      std::lock_guard lock(server_.mutex);
      if (--server_.n_answering == 0) server_.answered.notify_all();
    }
    Answering(const Answering&) = delete;
    Answering& operator=(const Answering&) = delete;

   private:
    Impl& server_;
  };

  Impl(Options o, Handler h)
      : options(std::move(o)),
        handler(std::move(h)),
        bodies(std::make_shared<ByteBudget>(options.max_bodies_bytes)),
        acceptor(context),
        guard(context.get_executor()) {}

  absl::Status Listen();
  void Accept();
  void AcceptLater(error_code why);
  bool HasRoom();
  std::shared_ptr<SSL_CTX> Tls();

  const Options options;
  const Handler handler;
  const std::shared_ptr<ByteBudget> bodies;
  std::atomic<size_t> n_connections = 0;
  std::mutex mutex;
  std::condition_variable answered;
  size_t n_answering ABSL_GUARDED_BY(mutex) = 0;
  asio::io_context context;
  tcp::acceptor acceptor;
  asio::executor_work_guard<asio::io_context::executor_type> guard;
  std::string address;
  std::vector<std::thread> threads;

  // The accepting handler's alone.
  asio::steady_timer pause{context};
  Episodes failing, full;
  // The context, and the certificates that it was made of.
  std::shared_ptr<SSL_CTX> tls;
  std::shared_ptr<const TlsPem> pem;
};

// One connection: reads a request, has it answered, reads the next. All of it runs on its strand;
// the answer's calls are posted there.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(tcp::socket socket, HttpServer::Impl& server)
      : server_(server),
        peer_(PeerOf(socket)),
        stream_(std::move(socket), server.Tls().get(), HttpStream::Side::kServer),
        timer_(stream_.get_executor()) {
    ++server_.n_connections;
  }
  ~HttpConnection() { --server_.n_connections; }

  void Start() {
    asio::dispatch(stream_.get_executor(), [self = shared_from_this()] {
      if (self->stream_.tls() != nullptr) return self->Handshake();
      self->server_.options.on_http2 ? self->TellVersion() : self->AwaitRequest();
    });
  }

 private:
  class Reply;

  void Handshake() {
    stream_.tcp().expires_after(server_.options.header_timeout);
    stream_.AsyncHandshake([self = shared_from_this()](error_code error, size_t) {
      if (!error) return self->AwaitRequest();
      // A port that is merely tried out says nothing.
      if (error.category() != asio::error::get_ssl_category()) return;
      spdlog::warn("TLS with {} fails: {}", StrCat(self->peer_),
                   self->stream_.tls()->WhyNot(error));
    });
  }

  // By the first bytes, which stay where they are.
  void TellVersion() {
    CloseWhenIdle();
    tcp::socket& socket = stream_.tcp().socket();
    socket.async_wait(
        tcp::socket::wait_read, [self = shared_from_this(), &socket](error_code error) {
          self->timer_.cancel();
          if (error) return self->Close();
          std::array<char, kHttp2Start.size()> start;
          const size_t n = socket.receive(asio::buffer(start), tcp::socket::message_peek, error);
          if (std::string_view(start.data(), n) != kHttp2Start) return self->AwaitRequest();
          if (const int fd = socket.release(error); !error) self->server_.options.on_http2(fd);
        });
  }

  // ---- Requests.

  void AwaitRequest() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(server_.options.max_header_bytes));
    parser_->body_limit(server_.options.max_body_bytes);
    if (buffer_.size() > 0) return ReadRequest();  // it has begun with the one before
    if (buffer_.capacity() > kFirstBytes) buffer_.shrink_to_fit();  // it may be long until then
    CloseWhenIdle();
    ReadAhead();
  }

  void CloseWhenIdle() {
    timer_.expires_after(server_.options.idle_timeout);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error && !self->answering_) self->stream_.tcp().close();
    });
  }

  // The next request's first bytes. While an answer is made, too: a client that goes meanwhile is
  // noticed by the end of what it sends.
  void ReadAhead() {
    if (reading_ || buffer_.size() > 0) return;
    reading_ = true;
    stream_.tcp().expires_never();
    stream_.async_read_some(buffer_.prepare(kFirstBytes),
                            [self = shared_from_this()](error_code error, size_t n) {
                              self->reading_ = false;
                              self->buffer_.commit(n);
                              if (error) return self->answering_ ? self->Gone() : self->Close();
                              if (!self->answering_) self->ReadRequest();
                            });
  }

  void ReadRequest() {
    timer_.cancel();
    stream_.tcp().expires_after(server_.options.header_timeout);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](error_code error, size_t) {
                              error ? self->HandleRequest(error) : self->AdmitBody();
                            });
  }

  void AdmitBody() {
    if (parser_->is_done()) return HandleRequest({});
    if (server_.options.admit) {
      if (auto status = server_.options.admit(HeadOf(parser_->get())); !status.ok()) {
        return RefuseBody(status);
      }
    }
    parser_->eager(true);
    share_ = std::make_shared<ByteShare>(server_.bodies);
    if (parser_->content_length().value_or(0) > server_.bodies->left()) {
      return RefuseBody(BodiesAreFull());
    }
    InviteBody();
  }

  // A client may wait to be told that its body will be read (RFC 9110, 10.1.1).
  void InviteBody() {
    const bool waits = beast::iequals(parser_->get()[http::field::expect], "100-continue");
    if (!waits || buffer_.size() > 0) return ReadBody();
    asio::async_write(stream_, asio::buffer(kContinue),
                      [self = shared_from_this()](error_code error, size_t) {
                        error ? self->HandleRequest(error) : self->ReadBody();
                      });
  }

  // As long as the bodies of all together leave room: it counts with twice of what has come, so
  // that nobody takes that room by announcing a body.
  void ReadBody() {
    const size_t n_bytes = parser_->get().body().size();
    if (!share_->Resize(std::min(BodyBytes(), std::max(kFirstShare, 2 * n_bytes)))) {
      return RefuseBody(BodiesAreFull());
    }
    http::async_read_some(stream_, buffer_, *parser_,
                          [self = shared_from_this()](error_code error, size_t) {
                            if (error || self->parser_->is_done())
                              return self->HandleRequest(error);
                            self->ReadBody();
                          });
  }

  // At most.
  size_t BodyBytes() const {
    const auto announced = parser_->content_length();
    return announced ? static_cast<size_t>(*announced) : server_.options.max_body_bytes;
  }

  absl::Status BodiesAreFull() const {
    return ResourceExhausted("the requests that are being read take all of the ",
                             server_.bodies->max_bytes(),
                             " bytes that their bodies may: retry later");
  }

  void HandleRequest(error_code error) {
    stream_.tcp().expires_never();
    keep_alive_ = !error && parser_->keep_alive();
    ++exchange_;
    if (error == http::error::body_limit) {
      return Refuse(413,
                    StrCat("the body is larger than ", server_.options.max_body_bytes, " bytes"));
    }
    if (error == http::error::header_limit) {
      return Refuse(
          431, StrCat("the headers are larger than ", server_.options.max_header_bytes, " bytes"));
    }
    if (error == beast::error::timeout) return Refuse(408, "the request did not come in time");
    if (error.category() == http::make_error_code(http::error::bad_method).category() &&
        error != http::error::end_of_stream && error != http::error::partial_message) {
      return Refuse(400, StrCat("this is not HTTP: ", error.message()));
    }
    if (error) return;
    HttpRequest request = TakeHead();
    request.body = std::move(parser_->get().body());
    if (share_ != nullptr) share_->Resize(request.body.size());
    request.share = std::move(share_);
    parser_.reset();
    answering_ = true;
    counted_.emplace(server_);
    ReadAhead();
    server_.handler(std::move(request), MakeReply());
  }

  HttpRequest TakeHead() {
    HttpRequest head = HeadOf(parser_->get());
    head.peer = StrCat(peer_);
    version_ = parser_->get().version();
    head_only_ = parser_->get().method() == http::verb::head;
    if (head_only_) head.method = "GET";
    return head;
  }

  std::shared_ptr<HttpReply> MakeReply();

  // The connection ends with that.
  void RefuseBody(const absl::Status& why) {
    if (!server_.options.refuse) return Refuse(429, Message(why));
    const HttpRequest head = TakeHead();
    ++exchange_;
    EndReading();
    server_.options.refuse(head, why, MakeReply());
  }

  // What is wrong with the connection's bytes; it ends with that.
  void Refuse(int status, const std::string& why) {
    EndReading();
    if (server_.options.on_refused) server_.options.on_refused(status);
    DoSend({.status = status, .content_type = "text/plain", .body = why + "\n"});
  }

  void EndReading() {
    parser_.reset();
    share_.reset();
    keep_alive_ = false;
    answering_ = true;
    unread_ = true;
    stream_.tcp().expires_never();
  }

  // ---- Answers.

  void DoSend(HttpAnswer answer) {
    if (gone_) return;
    auto message = std::make_shared<http::response<http::string_body>>(
        http::int_to_status(static_cast<unsigned>(answer.status)), version_);
    Fill(*message, answer);
    message->body() = std::move(answer.body);
    message->prepare_payload();
    if (head_only_) message->body().clear();
    WriteOn(std::make_shared<Written>(std::move(message)));
  }

  // A message and how much of it is written.
  struct Written {
    explicit Written(std::shared_ptr<http::response<http::string_body>> m)
        : message(std::move(m)), serializer(*message) {}
    std::shared_ptr<http::response<http::string_body>> message;
    http::response_serializer<http::string_body> serializer;
  };

  // As much as the client takes at once: a long answer has its time for each piece.
  void WriteOn(std::shared_ptr<Written> written) {
    stream_.tcp().expires_after(server_.options.write_timeout);
    auto& serializer = written->serializer;
    http::async_write_some(stream_, serializer,
                           [self = shared_from_this(), written = std::move(written)](
                               error_code error, size_t) mutable {
                             if (error) return self->Lose(error);
                             written->serializer.is_done() ? self->EndAnswer()
                                                           : self->WriteOn(std::move(written));
                           });
  }

  void DoStream(HttpAnswer answer, std::function<HttpReply::Chunk()> next) {
    if (gone_) return;
    next_ = std::move(next);
    if (!IsChunked()) keep_alive_ = false;
    auto message = std::make_shared<http::response<http::empty_body>>(
        http::int_to_status(static_cast<unsigned>(answer.status)), version_);
    Fill(*message, answer);
    message->chunked(IsChunked());
    auto serializer = std::make_shared<http::response_serializer<http::empty_body>>(*message);
    writing_ = true;
    stream_.tcp().expires_after(server_.options.write_timeout);
    http::async_write_header(
        stream_, *serializer,
        [self = shared_from_this(), message, serializer](error_code error, size_t) {
          self->writing_ = false;
          error ? self->Lose(error) : self->WriteNext();
        });
  }

  void WriteNext() {
    if (writing_ || gone_ || !next_) return;
    HttpReply::Chunk chunk = next_();
    if (chunk.bytes.empty() && !chunk.last) return stream_.tcp().expires_never();
    bytes_ = std::move(chunk.bytes);
    if (chunk.last) next_ = nullptr;
    writing_ = true;
    stream_.tcp().expires_after(server_.options.write_timeout);
    const auto written = [self = shared_from_this(), last = chunk.last](error_code error, size_t) {
      self->writing_ = false;
      if (error) return self->Lose(error);
      last ? self->EndAnswer() : self->WriteNext();
    };
    if (!IsChunked()) return asio::async_write(stream_, asio::buffer(bytes_), written);
    if (bytes_.empty()) return asio::async_write(stream_, http::make_chunk_last(), written);
    const auto bytes = http::make_chunk(asio::const_buffer(bytes_.data(), bytes_.size()));
    if (!chunk.last) return asio::async_write(stream_, bytes, written);
    asio::async_write(stream_, bytes,
                      [self = shared_from_this(), written](error_code error, size_t n) {
                        if (error) return written(error, n);
                        asio::async_write(self->stream_, http::make_chunk_last(), written);
                      });
  }

  // HTTP/1.0 knows no chunks: there a stream ends with its connection.
  bool IsChunked() const { return version_ >= 11; }

  template <typename Message>
  void Fill(Message& message, const HttpAnswer& answer) {
    message.set(http::field::content_type, answer.content_type);
    for (const auto& [name, value] : answer.headers) message.set(name, value);
    message.keep_alive(keep_alive_);
  }

  void EndAnswer() {
    answering_ = false;
    counted_.reset();
    on_gone_ = nullptr;
    next_ = nullptr;
    if (keep_alive_) return AwaitRequest();
    if (stream_.tls() == nullptr) return Leave();
    stream_.AsyncGoodbye([self = shared_from_this()](error_code, size_t) { self->Leave(); });
  }

  // What a client still sends that is not read is thrown away for a while: it would be told that
  // the connection is reset, and not read its answer (RFC 9112, 9.6).
  void Leave() {
    if (!unread_) return Close();
    error_code ignored;
    stream_.tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.tcp().expires_after(server_.options.header_timeout);
    Discard();
  }

  void Discard() {
    buffer_.clear();
    stream_.tcp().async_read_some(buffer_.prepare(kFirstBytes),
                                  [self = shared_from_this()](error_code error, size_t) {
                                    error ? self->Close() : self->Discard();
                                  });
  }

  void Close() {
    counted_.reset();
    on_gone_ = nullptr;
    timer_.cancel();
    error_code ignored;
    stream_.tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.tcp().close();
  }

  // The client, by a write that failed.
  void Lose(error_code error) {
    if (error == beast::error::timeout) {
      spdlog::warn(
          "{}, an HTTP client, has read nothing for {} s (--write-timeout): its connection "
          "is closed",
          StrCat(peer_), std::chrono::duration<double>(server_.options.write_timeout).count());
    }
    Gone();
  }

  void Gone() {
    if (gone_) return;
    gone_ = true;
    counted_.reset();
    next_ = nullptr;
    stream_.tcp().close();
    if (auto tell = std::exchange(on_gone_, nullptr)) tell();
  }

  static constexpr size_t kFirstBytes = 4096;
  static constexpr size_t kFirstShare = 64 << 10;          // of a body of which nothing has come
  static constexpr std::string_view kHttp2Start = "PRI ";  // RFC 9113, 3.4; no method of HTTP/1.1's
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

  static tcp::endpoint PeerOf(const tcp::socket& socket) {
    error_code unknown;
    return socket.remote_endpoint(unknown);
  }

  HttpServer::Impl& server_;
  const tcp::endpoint peer_;
  HttpStream stream_;
  asio::steady_timer timer_;  // of idleness, which reads and writes do not bound
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::shared_ptr<ByteShare> share_;  // of the body that is being read
  unsigned version_ = 11;
  bool keep_alive_ = false;
  bool head_only_ = false;
  bool answering_ = false;
  std::optional<HttpServer::Impl::Answering> counted_;  // while it does
  bool reading_ = false;                                // ahead
  bool gone_ = false;
  bool unread_ = false;    // is what comes still, when the connection ends
  uint64_t exchange_ = 0;  // its number, by which a reply that comes late is known
  std::function<HttpReply::Chunk()> next_;
  std::function<void()> on_gone_;
  bool writing_ = false;
  std::string bytes_;  // under way
};

class HttpConnection::Reply : public HttpReply {
 public:
  explicit Reply(std::shared_ptr<HttpConnection> connection)
      : connection_(std::move(connection)), exchange_(connection_->exchange_) {}

  void Send(HttpAnswer answer) override {
    Post([answer = std::move(answer)](HttpConnection& c) mutable { c.DoSend(std::move(answer)); });
  }
  void Stream(HttpAnswer answer, std::function<Chunk()> next) override {
    Post([answer = std::move(answer), next = std::move(next)](HttpConnection& c) mutable {
      c.DoStream(std::move(answer), std::move(next));
    });
  }
  void Wake() override {
    Post([](HttpConnection& c) { c.WriteNext(); });
  }
  void OnGone(std::function<void()> gone) override {
    Post([gone = std::move(gone)](HttpConnection& c) mutable {
      if (c.gone_) return gone();
      if (c.answering_) c.on_gone_ = std::move(gone);
    });
  }

 private:
  template <typename F>
  void Post(F&& f) {
    asio::post(connection_->stream_.get_executor(),
               [connection = connection_, exchange = exchange_, f = std::forward<F>(f)]() mutable {
                 if (connection->exchange_ == exchange) f(*connection);
               });
  }

  const std::shared_ptr<HttpConnection> connection_;
  const uint64_t exchange_;
};

std::shared_ptr<HttpReply> HttpConnection::MakeReply() {
  return std::make_shared<Reply>(shared_from_this());
}

absl::Status HttpServer::Impl::Listen() {
  RETURN_IF_ERROR(CheckAddress(options.address, /*least_port=*/0));
  const size_t colon = options.address.rfind(':');
  std::string host = options.address.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  error_code error;
  tcp::resolver resolver(context);
  const auto found =
      resolver.resolve(host, options.address.substr(colon + 1), tcp::resolver::passive, error);
  if (!error) {
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  }
  if (error) return Unavailable("cannot listen on ", options.address, ": ", error.message());
  address = StrCat(options.address.substr(0, colon), ":", acceptor.local_endpoint().port());
  return absl::OkStatus();
}

// What new connections speak; null: plain bytes.
std::shared_ptr<SSL_CTX> HttpServer::Impl::Tls() {
  if (options.tls == nullptr) return nullptr;
  auto now = options.tls->Get();
  if (now != pem) {
    tls = NewServerContext(*now);
    pem = std::move(now);
  }
  return tls;
}

void HttpServer::Impl::Accept() {
  acceptor.async_accept(asio::make_strand(context), [this](error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) return AcceptLater(error);
    if (HasRoom()) {
      socket.set_option(tcp::no_delay(true), error);
      std::make_shared<HttpConnection>(std::move(socket), *this)->Start();
    }
    Accept();
  });
}

// Such as without a file descriptor that is free, when each further attempt fails at once: until
// there is one, who dials waits.
void HttpServer::Impl::AcceptLater(error_code why) {
  if (failing.Begins()) {
    const bool files = why == asio::error::no_descriptors || why.value() == ENFILE;
    spdlog::warn("{} takes no HTTP connections for now: {}{}", address, why.message(),
                 files ? "; raise the limit (ulimit -n) or lower --max-connections" : "");
  }
  pause.expires_after(kPause);
  pause.async_wait([this](error_code error) {
    if (!error) Accept();
  });
}

bool HttpServer::Impl::HasRoom() {
  if (n_connections < options.max_connections) return true;
  if (full.Begins()) {
    spdlog::warn(
        "{} has {} HTTP connections, as many as it takes (--max-connections): more are "
        "closed at once",
        address, options.max_connections);
  }
  return false;
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { Stop(); }

size_t HttpServer::n_connections() const { return impl_->n_connections; }

const std::string& HttpServer::address() const { return impl_->address; }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(Options options, Handler handler) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(handler));
  RETURN_IF_ERROR(impl->Listen());
  impl->Accept();
  for (int i = 0; i < impl->options.n_threads; ++i) {
    impl->threads.emplace_back([context = &impl->context] { context->run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

void HttpServer::Finish(std::chrono::milliseconds most) {
  std::unique_lock lock(impl_->mutex);
  impl_->answered.wait_for(lock, most, [this] { return impl_->n_answering == 0; });
}

void HttpServer::Stop() {
  impl_->context.stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

}  // namespace trireme
