#include "server/tls.h"

#include <arpa/inet.h>

#include <utility>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "openssl/err.h"
#include "openssl/pem.h"
#include "openssl/ssl.h"
#include "openssl/x509v3.h"

namespace trireme {
namespace {

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using Store = std::unique_ptr<X509_STORE, Deleter<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Deleter<X509_STORE_CTX_free>>;
using Context = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Deleter<GENERAL_NAMES_free>>;

Bio Reader(const std::string& bytes) {
  return Bio(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
}

// A key with a passphrase is none: nobody is there to be asked.
int NoPassphrase(char*, int, int, void*) { return -1; }

std::vector<Certificate> Certificates(const std::string& pem) {
  std::vector<Certificate> found;
  const Bio in = Reader(pem);
  while (X509* certificate = PEM_read_bio_X509(in.get(), nullptr, NoPassphrase, nullptr)) {
    found.emplace_back(certificate);
  }
  ERR_clear_error();
  return found;
}

Key PrivateKey(const std::string& pem) {
  Key key(PEM_read_bio_PrivateKey(Reader(pem).get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  return key;
}

std::string Text(const ASN1_TIME* time) {
  const Bio out(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(out.get(), time);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

// False with OpenSSL's reason on its queue.
bool Use(SSL_CTX* context, const std::vector<Certificate>& chain, EVP_PKEY* key) {
  for (size_t i = 0; i < chain.size(); ++i) {
    const int taken = i == 0 ? SSL_CTX_use_certificate(context, chain[i].get())
                             : SSL_CTX_add1_chain_cert(context, chain[i].get());
    if (taken != 1) return false;
  }
  return SSL_CTX_use_PrivateKey(context, key) == 1;
}

absl::Status Check(const TlsFiles& files, const TlsPem& pem) {
  if (files.cert.empty() != files.key.empty()) {
    return InvalidArgument("--tls-cert and --tls-key are given together");
  }
  if (!files.ca.empty() && Certificates(pem.ca).empty()) {
    return InvalidArgument(files.ca, ": expected certificates in PEM");
  }
  if (files.cert.empty()) return absl::OkStatus();
  const std::vector<Certificate> chain = Certificates(pem.cert);
  if (chain.empty()) return InvalidArgument(files.cert, ": expected certificates in PEM");
  const Key key = PrivateKey(pem.key);
  if (key == nullptr) {
    return InvalidArgument(files.key, ": expected a private key in PEM, without a passphrase");
  }
  const Context context(SSL_CTX_new(TLS_method()));
  const bool usable = Use(context.get(), chain, key.get());
  const char* why = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  if (!usable) {
    return InvalidArgument(files.cert, " with ", files.key, ": ",
                           why == nullptr ? "unusable" : why);
  }
  const ASN1_TIME* end = X509_get0_notAfter(chain.front().get());
  if (X509_cmp_current_time(end) < 0) {
    return InvalidArgument(files.cert, ": expired on ", Text(end));
  }
  return absl::OkStatus();
}

Context NewContext(const SSL_METHOD* method) {
  Context context(SSL_CTX_new(method));
  CHECK(context != nullptr);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  return context;
}

void Trust(SSL_CTX* context, const std::string& authorities) {
  for (const Certificate& authority : Certificates(authorities)) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get());
  }
}

}  // namespace

absl::StatusOr<TlsPem> ReadTls(const TlsFiles& files) {
  TlsPem pem;
  for (const auto& [path, text] :
       {std::pair(&files.cert, &pem.cert), {&files.key, &pem.key}, {&files.ca, &pem.ca}}) {
    if (path->empty()) continue;
    ASSIGN_OR_RETURN(*text, ReadFile(*path));
  }
  RETURN_IF_ERROR(Check(files, pem));
  return pem;
}

std::string CertifiedName(const std::string& cert) {
  const std::vector<Certificate> chain = Certificates(cert);
  if (chain.empty()) return "";
  X509* own = chain.front().get();
  const Names names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(own, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    const ASN1_STRING* value = name->d.ia5;
    const unsigned char* bytes = ASN1_STRING_get0_data(value);
    const size_t size = static_cast<size_t>(ASN1_STRING_length(value));
    if (name->type == GEN_DNS) return std::string(reinterpret_cast<const char*>(bytes), size);
    char address[INET6_ADDRSTRLEN];
    if (name->type == GEN_IPADD && (size == 4 || size == 16)) {
      return inet_ntop(size == 4 ? AF_INET : AF_INET6, bytes, address, sizeof address);
    }
  }
  char common_name[256] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(own), NID_commonName, common_name,
                            sizeof common_name);
  return common_name;
}

absl::Status CheckAsClient(const std::string& cert, const std::string& ca) {
  const Store store(X509_STORE_new());
  for (const Certificate& authority : Certificates(ca)) {
    X509_STORE_add_cert(store.get(), authority.get());
  }
  const std::vector<Certificate> chain = Certificates(cert);
  CHECK(!chain.empty());
  STACK_OF(X509)* others = sk_X509_new_null();
  for (const Certificate& other : chain) sk_X509_push(others, other.get());
  const StoreContext context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), chain.front().get(), others);
  X509_STORE_CTX_set_default(context.get(), "ssl_client");
  const bool trusted = X509_verify_cert(context.get()) == 1;
  const int error = X509_STORE_CTX_get_error(context.get());
  sk_X509_free(others);
  ERR_clear_error();
  if (trusted) return absl::OkStatus();
  return InvalidArgument(X509_verify_cert_error_string(error));
}

std::shared_ptr<ssl_ctx_st> NewServerContext(const TlsPem& pem) {
  Context context = NewContext(TLS_server_method());
  constexpr unsigned char kSessions[] = "trireme";  // resumed sessions are this program's
  SSL_CTX_set_session_id_context(context.get(), kSessions, sizeof kSessions - 1);
  CHECK(Use(context.get(), Certificates(pem.cert), PrivateKey(pem.key).get()));
  if (!pem.ca.empty()) {
    Trust(context.get(), pem.ca);
    for (const Certificate& authority : Certificates(pem.ca)) {
      SSL_CTX_add_client_CA(context.get(), authority.get());
    }
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return context;
}

std::shared_ptr<ssl_ctx_st> NewClientContext(const TlsPem& pem) {
  Context context = NewContext(TLS_client_method());
  pem.ca.empty() ? void(SSL_CTX_set_default_verify_paths(context.get()))
                 : Trust(context.get(), pem.ca);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (!pem.cert.empty()) {
    CHECK(Use(context.get(), Certificates(pem.cert), PrivateKey(pem.key).get()));
  }
  return context;
}

absl::StatusOr<std::shared_ptr<TlsStore>> TlsStore::Open(TlsFiles files) {
  std::shared_ptr<TlsStore> store(new TlsStore(std::move(files)));
  std::lock_guard lock(store->mutex_);
  store->written_ = store->Written();
  ASSIGN_OR_RETURN(TlsPem pem, ReadTls(store->files_));
  store->pem_ = std::make_shared<const TlsPem>(std::move(pem));
  return store;
}

// When each was.
TlsStore::Times TlsStore::Written() const {
  Times times{};
  std::error_code error;
  const std::string* paths[] = {&files_.cert, &files_.key, &files_.ca};
  for (size_t i = 0; i < times.size(); ++i) {
    if (!paths[i]->empty()) times[i] = std::filesystem::last_write_time(*paths[i], error);
  }
  return times;
}

std::shared_ptr<const TlsPem> TlsStore::Get() {
  std::lock_guard lock(mutex_);
  const Times written = Written();
  if (written == written_) return pem_;
  written_ = written;
  auto pem = ReadTls(files_);
  if (!pem.ok()) {
    spdlog::error("{}; the certificates from before stay", Message(pem.status()));
    return pem_;
  }
  pem_ = std::make_shared<const TlsPem>(*std::move(pem));
  spdlog::info("the certificates are read again");
  return pem_;
}

}  // namespace trireme
