// One HTTP connection's bytes: plain, or by TLS.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "boost/asio/buffer.hpp"
#include "boost/asio/compose.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/ssl/error.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/core/tcp_stream.hpp"
#include "server/tls_engine.h"

namespace trireme {

// An AsyncStream, as Beast's operations take it, with the timeouts of its tcp(). One read and one
// write may be under way at a time; during a handshake neither.
class HttpStream {
 public:
  using Side = TlsEngine::Side;

  // `context`: null for plain bytes; else it need not outlive this.
  HttpStream(boost::asio::ip::tcp::socket socket, SSL_CTX* context, Side side)
      : tcp_(std::move(socket)) {
    if (context != nullptr) tls_ = std::make_unique<Tls>(context, side);
  }

  using executor_type = boost::beast::tcp_stream::executor_type;
  executor_type get_executor() { return tcp_.get_executor(); }
  boost::beast::tcp_stream& tcp() { return tcp_; }
  TlsEngine* tls() { return tls_ == nullptr ? nullptr : &tls_->engine; }  // null: plain

  // Handlers take an error_code and a number of bytes.
  template <typename Handler>
  void AsyncHandshake(Handler&& handler) {
    AsyncTls([this] { return tls()->Handshake(); }, kWrites, std::forward<Handler>(handler));
  }
  template <typename Handler>
  void AsyncGoodbye(Handler&& handler) {
    AsyncTls([this] { return tls()->Close(); }, kWrites, std::forward<Handler>(handler));
  }

  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_ == nullptr) return tcp_.async_read_some(buffers, std::forward<Handler>(handler));
    const boost::asio::mutable_buffer to = First(buffers);
    AsyncTls([this, to] { return tls()->Read(to.data(), to.size()); }, !kWrites,
             std::forward<Handler>(handler));
  }

  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_ == nullptr) return tcp_.async_write_some(buffers, std::forward<Handler>(handler));
    const auto write = [this, buffers] {  // small buffers share a record
      std::array<char, 16 << 10> record;
      const size_t n = boost::asio::buffer_copy(boost::asio::buffer(record), buffers);
      TlsEngine::Step step = tls()->Write({record.data(), n});
      // Amid a message of the peer's handshake, as no peer that means well leaves it. Reading is
      // the reader's.
      if (std::exchange(step.wants_bytes, false)) {
        step.error = boost::asio::ssl::error::unexpected_result;
      }
      return step;
    };
    AsyncTls(write, kWrites, std::forward<Handler>(handler));
  }

 private:
  static constexpr bool kWrites = true;

  struct Tls {
    Tls(SSL_CTX* context, Side side) : engine(context, side) {}
    TlsEngine engine;
    std::array<char, 4096> incoming;
  };

  template <typename Buffers>
  static boost::asio::mutable_buffer First(const Buffers& buffers) {
    for (auto it = boost::asio::buffer_sequence_begin(buffers);
         it != boost::asio::buffer_sequence_end(buffers); ++it) {
      if (boost::asio::mutable_buffer(*it).size() > 0) return *it;
    }
    return {};
  }

  // Takes a step of the engine until it is done, with reads and writes between.
  template <typename F>
  struct Steps {
    HttpStream& stream;
    F take_step;
    bool writes;
    TlsEngine::Step step{};
    std::unique_ptr<std::string> outgoing{};
    enum { kBegin, kStep, kWrite, kRead } did = kBegin;

    template <typename Self>
    void operator()(Self& self, boost::system::error_code error = {}, size_t n = 0) {
      namespace asio = boost::asio;
      if (did == kRead && error == asio::error::eof) error = asio::ssl::error::stream_truncated;
      if (error) return self.complete(error, 0);
      if (did == kRead) stream.tls_->engine.Take({stream.tls_->incoming.data(), n});
      if (did == kBegin || did == kRead) {
        const bool first = did == kBegin;
        did = kStep;
        step = take_step();
        if (writes) outgoing = std::make_unique<std::string>(stream.tls_->engine.TakeOutgoing());
        if (writes && !outgoing->empty()) {
          did = kWrite;
          const auto bytes = asio::buffer(*outgoing);
          return asio::async_write(stream.tcp_, bytes, std::move(self));
        }
        // Nobody is called back from within the call that began it.
        if (first && !step.wants_bytes) return asio::post(stream.get_executor(), std::move(self));
      }
      outgoing.reset();
      if (!step.wants_bytes) return self.complete(step.error, step.n);
      did = kRead;
      stream.tcp_.async_read_some(asio::buffer(stream.tls_->incoming), std::move(self));
    }
  };

  template <typename F, typename Handler>
  void AsyncTls(F take_step, bool writes, Handler handler) {
    boost::asio::async_compose<Handler, void(boost::system::error_code, size_t)>(
        Steps<F>{*this, std::move(take_step), writes}, handler, tcp_);
  }

  boost::beast::tcp_stream tcp_;
  std::unique_ptr<Tls> tls_;  // null: plain
};

}  // namespace trireme
