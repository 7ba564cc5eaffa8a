// TLS of one connection without its I/O: bytes of the peer go in, bytes for it come out. OpenSSL's
// buffers are there only while a record is under way, so that an idle connection is small.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "boost/system/error_code.hpp"
#include "openssl/ssl.h"

namespace trireme {

class TlsEngine {
 public:
  enum class Side { kServer, kClient };

  TlsEngine(SSL_CTX* context, Side side);
  ~TlsEngine();
  TlsEngine(const TlsEngine&) = delete;

  // For a client, before its handshake: a name or an address that the server's certificate is for.
  void ExpectServer(const std::string& name);

  // What came of a step: it wants bytes of the peer and is to be taken again with them; or it is
  // done, with so many bytes; or it has failed.
  struct Step {
    bool wants_bytes = false;
    size_t n = 0;
    boost::system::error_code error;
  };
  Step Handshake();
  Step Read(void* to, size_t n);
  Step Write(std::string_view bytes);
  Step Close();  // says goodbye; does not wait for the peer's

  // Of the peer, to be kept until a step wants more again.
  void Take(std::string_view bytes) { incoming_ = bytes; }

  // For the peer, after every step, even one that failed. A reader may leave them to the next
  // writer.
  std::string TakeOutgoing() { return std::exchange(outgoing_, {}); }

  // Why the handshake failed.
  std::string WhyNot(boost::system::error_code error) const;

 private:
  static const BIO_METHOD* Method();
  Step Result(int result);

  std::string_view incoming_;
  std::string outgoing_;
  SSL* const ssl_;
};

}  // namespace trireme
