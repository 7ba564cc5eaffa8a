// Certificates for TLS: PEM files, checked when they are read and read again when they change.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "base/status.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace trireme {

struct TlsFiles {
  std::string cert;  // what this side shows: its certificate, then those up to an authority's
  std::string key;   // of the certificate
  std::string ca;    // authorities; who shows no certificate of theirs is refused

  bool any() const { return !cert.empty() || !key.empty() || !ca.empty(); }
};

// What the files hold; empty where there is no file.
struct TlsPem {
  std::string cert, key, ca;
};

// NOT_FOUND, or INVALID_ARGUMENT naming the file: no PEM, a key of another certificate, one that is
// too weak for OpenSSL, a certificate that has expired.
absl::StatusOr<TlsPem> ReadTls(const TlsFiles& files);

// A name or address that the certificate is for, to verify it by where it is dialled under another;
// empty: for none.
std::string CertifiedName(const std::string& cert);

// Whether a client that shows `cert` is let in by whoever asks for one of `ca`; if not, OpenSSL's
// reason.
absl::Status CheckAsClient(const std::string& cert, const std::string& ca);

// Of what ReadTls has checked: TLS 1.2 or later for a server; with `ca`, clients must show a
// certificate.
std::shared_ptr<ssl_ctx_st> NewServerContext(const TlsPem& pem);

// The same for a client, which verifies the server by `ca`, or by the host's authorities, and shows
// `cert` if there is one.
std::shared_ptr<ssl_ctx_st> NewClientContext(const TlsPem& pem);

// Files that are read again when one of them has changed. What is wrong then is told of in the log,
// and what was before stays. Thread-safe.
class TlsStore {
 public:
  // As ReadTls.
  static absl::StatusOr<std::shared_ptr<TlsStore>> Open(TlsFiles files);

  // Another pointer after each change.
  std::shared_ptr<const TlsPem> Get();

  const TlsFiles& files() const { return files_; }

 private:
  using Times = std::array<std::filesystem::file_time_type, 3>;

  explicit TlsStore(TlsFiles files) : files_(std::move(files)) {}
  Times Written() const;

  const TlsFiles files_;
  std::mutex mutex_;
  std::shared_ptr<const TlsPem> pem_ ABSL_GUARDED_BY(mutex_);
  Times written_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme
