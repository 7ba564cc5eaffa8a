#include "server/tls_engine.h"

#include <algorithm>
#include <cstring>

#include "boost/asio/error.hpp"
#include "boost/asio/ssl/error.hpp"
#include "openssl/err.h"

namespace trireme {

using boost::system::error_code;

// A BIO that reads the engine's incoming bytes and appends to its outgoing ones.
const BIO_METHOD* TlsEngine::Method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "TlsEngine");
    BIO_meth_set_read(made, [](BIO* bio, char* to, int n) {
      auto& from = static_cast<TlsEngine*>(BIO_get_data(bio))->incoming_;
      BIO_clear_retry_flags(bio);
      if (from.empty()) {
        BIO_set_retry_read(bio);
        return -1;
      }
      const size_t taken = std::min(from.size(), static_cast<size_t>(n));
      std::memcpy(to, from.data(), taken);
      from.remove_prefix(taken);
      return static_cast<int>(taken);
    });
    BIO_meth_set_write(made, [](BIO* bio, const char* from, int n) {
      static_cast<TlsEngine*>(BIO_get_data(bio))->outgoing_.append(from, static_cast<size_t>(n));
      return n;
    });
    BIO_meth_set_ctrl(
        made, [](BIO*, int what, long, void*) -> long { return what == BIO_CTRL_FLUSH ? 1 : 0; });
    return made;
  }();
  return method;
}

TlsEngine::TlsEngine(SSL_CTX* context, Side side) : ssl_(SSL_new(context)) {
  BIO* bio = BIO_new(Method());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  side == Side::kServer ? SSL_set_accept_state(ssl_) : SSL_set_connect_state(ssl_);
}

TlsEngine::~TlsEngine() { SSL_free(ssl_); }

void TlsEngine::ExpectServer(const std::string& name) {
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), name.c_str()) == 1) return;
  SSL_set1_host(ssl_, name.c_str());
  SSL_set_tlsext_host_name(ssl_, name.c_str());  // RFC 6066, 3: of names alone
}

TlsEngine::Step TlsEngine::Result(int result) {
  if (result > 0) return {.n = static_cast<size_t>(result)};
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return {.wants_bytes = true};
    case SSL_ERROR_ZERO_RETURN:
      return {.error = boost::asio::error::eof};
    default:
      const unsigned long why = ERR_get_error();
      if (why == 0) return {.error = boost::asio::ssl::error::unexpected_result};
      return {.error = {static_cast<int>(why), boost::asio::error::get_ssl_category()}};
  }
}

TlsEngine::Step TlsEngine::Handshake() {
  ERR_clear_error();
  return Result(SSL_do_handshake(ssl_));
}

TlsEngine::Step TlsEngine::Read(void* to, size_t n) {
  constexpr size_t kMostUnsent = 64 << 10;  // of answers to a peer that never lets us write
  if (outgoing_.size() > kMostUnsent) return {.error = boost::asio::ssl::error::unexpected_result};
  ERR_clear_error();
  return Result(SSL_read(ssl_, to, static_cast<int>(n)));
}

TlsEngine::Step TlsEngine::Write(std::string_view bytes) {
  if (bytes.empty()) return {};
  ERR_clear_error();
  return Result(SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())));
}

TlsEngine::Step TlsEngine::Close() {
  ERR_clear_error();
  SSL_shutdown(ssl_);
  return {};
}

std::string TlsEngine::WhyNot(error_code error) const {
  const long verified = SSL_get_verify_result(ssl_);
  return verified == X509_V_OK ? error.message() : X509_verify_cert_error_string(verified);
}

}  // namespace trireme
