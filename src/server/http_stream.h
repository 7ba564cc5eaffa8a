// One HTTP connection's bytes: plain, or by TLS.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/ssl/context.hpp"
#include "boost/asio/ssl/stream.hpp"
#include "boost/beast/core/flat_stream.hpp"
#include "boost/beast/core/tcp_stream.hpp"
#include "openssl/ssl.h"

namespace trireme {

// An AsyncStream, as Beast's operations take it, with the timeouts of its tcp().
class HttpStream {
 public:
  using Tls = boost::asio::ssl::context;

  // `tls`: null for plain bytes.
  HttpStream(boost::asio::ip::tcp::socket socket, std::shared_ptr<Tls> tls)
      : tcp_(std::move(socket)), context_(std::move(tls)) {
    if (context_ != nullptr) tls_.emplace(tcp_, *context_);
  }

  using executor_type = boost::beast::tcp_stream::executor_type;
  executor_type get_executor() { return tcp_.get_executor(); }
  boost::beast::tcp_stream& tcp() { return tcp_; }
  bool is_tls() const { return tls_.has_value(); }

  // For a client, before its handshake: a name or an address that the server's certificate is for.
  void ExpectServer(const std::string& name) {
    SSL* ssl = tls_->next_layer().native_handle();
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1) return;
    SSL_set1_host(ssl, name.c_str());
    SSL_set_tlsext_host_name(ssl, name.c_str());  // RFC 6066, 3: of names alone
  }

  // Handlers take an error_code, those of reads and writes also a number of bytes.
  using Side = boost::asio::ssl::stream_base::handshake_type;
  template <typename Handler>
  void AsyncHandshake(Side side, Handler&& handler) {
    tls_->next_layer().async_handshake(side, std::forward<Handler>(handler));
  }
  template <typename Handler>
  void AsyncShutdown(Handler&& handler) {
    tls_->next_layer().async_shutdown(std::forward<Handler>(handler));
  }

  // Why the handshake failed.
  std::string WhyNot(boost::system::error_code error) {
    const long verified = SSL_get_verify_result(tls_->next_layer().native_handle());
    return verified == X509_V_OK ? error.message() : X509_verify_cert_error_string(verified);
  }

  template <typename Buffers, typename Handler>
  auto async_read_some(const Buffers& buffers, Handler&& handler) {
    return tls_.has_value() ? tls_->async_read_some(buffers, std::forward<Handler>(handler))
                            : tcp_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <typename Buffers, typename Handler>
  auto async_write_some(const Buffers& buffers, Handler&& handler) {
    return tls_.has_value() ? tls_->async_write_some(buffers, std::forward<Handler>(handler))
                            : tcp_.async_write_some(buffers, std::forward<Handler>(handler));
  }

 private:
  boost::beast::tcp_stream tcp_;
  const std::shared_ptr<Tls> context_;
  // flat_stream: small buffers of one write share a TLS record.
  std::optional<boost::beast::flat_stream<boost::asio::ssl::stream<boost::beast::tcp_stream&>>>
      tls_;
};

}  // namespace trireme
