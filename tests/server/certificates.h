// Certificates made for a test.
#pragma once

#include <string>

namespace trireme::test {

// An authority, or what one signed.
struct Certificate {
  std::string cert, key;  // PEM
};

struct CertificateOptions {
  std::string name = "localhost";   // for a DNS name of its own and the address 127.0.0.1
  const Certificate* by = nullptr;  // who signs; null: itself, an authority
  bool client = false;              // for clients alone, not for servers
  long valid_s = 3600;              // from now; negative: it has expired
};
Certificate MakeCertificate(const CertificateOptions& options = {});

// Of a file that is the running test's alone; the second puts `contents` into it.
std::string TestPath(const std::string& name);
std::string TestFile(const std::string& name, const std::string& contents);

}  // namespace trireme::test
