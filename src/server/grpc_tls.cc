#include "server/grpc_tls.h"

#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "server/grpc_util.h"

namespace trireme {
namespace {

// gRPC's C library asks for the certificates at each connection; its C++ wrapper has no way to say
// so. (FileWatcherCertificateProvider puts files into force that are no certificates.)
class WatchingCredentials : public grpc::ServerCredentials {
 public:
  explicit WatchingCredentials(std::shared_ptr<TlsStore> store) : store_(std::move(store)) {
    const auto clients = store_->files().ca.empty()
                             ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                             : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, Fetch, this));
  }
  ~WatchingCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto& own = *static_cast<WatchingCredentials*>(self);
    std::lock_guard lock(own.mutex_);
    auto now = own.store_->Get();
    if (now == own.pem_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {now->key.c_str(), now->cert.c_str()};
    // gRPC insists on authorities although it asks nobody for a certificate.
    const std::string& authorities = now->ca.empty() ? now->cert : now->ca;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    own.pem_ = std::move(now);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<TlsStore> store_;
  grpc_server_credentials* credentials_;
  std::mutex mutex_;
  std::shared_ptr<const TlsPem> pem_ ABSL_GUARDED_BY(mutex_);  // in force
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> ServerCredentials(std::shared_ptr<TlsStore> store) {
  if (store == nullptr) return grpc::InsecureServerCredentials();
  return std::make_shared<WatchingCredentials>(std::move(store));
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Dial(const std::string& address,
                                                    const ClientTls& tls) {
  ASSIGN_OR_RETURN(const TlsPem pem, ReadTls(tls.files));
  return Dial(address, tls, pem);
}

std::shared_ptr<grpc::Channel> Dial(const std::string& address, const ClientTls& tls,
                                    const TlsPem& pem, grpc::ChannelArguments arguments) {
  if (!tls.used()) {
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  if (!tls.server_name.empty()) arguments.SetSslTargetNameOverride(tls.server_name);
  return grpc::CreateCustomChannel(address, grpc::SslCredentials({pem.ca, pem.key, pem.cert}),
                                   arguments);
}

absl::Status Explain(const absl::Status& status, const ClientTls& tls) {
  const std::string message = Message(status);
  if (!absl::IsUnavailable(status) || message.find("Socket closed") == message.npos) return status;
  // With TLS 1.3 a server judges a client's certificate when the client thinks it is connected.
  return Unavailable(message, !tls.used() ? "; does it want TLS (--tls or --tls-ca)?"
                              : tls.files.cert.empty()
                                  ? "; does it want a certificate (--tls-cert)?"
                                  : "; does it not take this certificate (--tls-cert)?");
}

}  // namespace trireme
