#include "tests/server/certificates.h"

#include <memory>

#include "base/check.h"
#include "base/file.h"
#include "gtest/gtest.h"
#include "openssl/pem.h"
#include "openssl/x509v3.h"

namespace trireme::test {
namespace {

template <typename Write>
std::string Pem(Write write) {
  BIO* out = BIO_new(BIO_s_mem());
  CHECK_EQ(write(out), 1);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out, &bytes);
  std::string pem(bytes, static_cast<size_t>(size));
  BIO_free(out);
  return pem;
}

BIO* Reader(const std::string& pem) {
  return BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
}

X509* ReadCertificate(const std::string& pem) {
  BIO* in = Reader(pem);
  X509* certificate = PEM_read_bio_X509(in, nullptr, nullptr, nullptr);
  BIO_free(in);
  return certificate;
}

EVP_PKEY* ReadKey(const std::string& pem) {
  BIO* in = Reader(pem);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
  BIO_free(in);
  return key;
}

void AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  CHECK(extension != nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

}  // namespace

Certificate MakeCertificate(const CertificateOptions& options) {
  const bool authority = options.by == nullptr;
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* own = X509_new();
  static long serial = 0;
  X509_set_version(own, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(own), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(own), -7200);
  X509_gmtime_adj(X509_getm_notAfter(own), options.valid_s);
  X509_set_pubkey(own, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(own), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(options.name.c_str()), -1, -1,
                             0);
  X509* issuer = authority ? own : ReadCertificate(options.by->cert);
  EVP_PKEY* issuer_key = authority ? key : ReadKey(options.by->key);
  X509_set_issuer_name(own, X509_get_subject_name(issuer));
  AddExtension(own, issuer, NID_basic_constraints, authority ? "critical,CA:TRUE" : "CA:FALSE");
  if (!authority) {
    AddExtension(own, issuer, NID_ext_key_usage, options.client ? "clientAuth" : "serverAuth");
    AddExtension(own, issuer, NID_subject_alt_name, "DNS:" + options.name + ",IP:127.0.0.1");
  }
  CHECK(X509_sign(own, issuer_key, EVP_sha256()) > 0);
  Certificate made;
  made.cert = Pem([&](BIO* out) { return PEM_write_bio_X509(out, own); });
  made.key = Pem([&](BIO* out) {
    return PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
  if (!authority) {
    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
  }
  X509_free(own);
  EVP_PKEY_free(key);
  return made;
}

std::string TestPath(const std::string& name) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string who = std::string(test->test_suite_name()) + "." + test->name() + ".";
  for (char& c : who) c = c == '/' ? '_' : c;
  return testing::TempDir() + who + name;
}

std::string TestFile(const std::string& name, const std::string& contents) {
  const std::string path = TestPath(name);
  CHECK(WriteFile(path, contents).ok()) << path;
  return path;
}

}  // namespace trireme::test
