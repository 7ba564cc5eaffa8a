#include "server/tls.h"

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/certificates.h"

namespace trireme {
namespace {

using test::Certificate;
using test::MakeCertificate;
using test::TestFile;
using testing::AllOf;
using testing::HasSubstr;

std::string Why(const TlsFiles& files) { return Message(ReadTls(files).status()); }

TEST(TlsTest, SaysWhichFileIsWrong) {
  const Certificate ca = MakeCertificate({.name = "authority"});
  const Certificate own = MakeCertificate({.by = &ca});
  const Certificate other = MakeCertificate({.by = &ca});
  const Certificate expired = MakeCertificate({.by = &ca, .valid_s = -60});
  const std::string cert = TestFile("cert.pem", own.cert), key = TestFile("key.pem", own.key);
  const std::string authority = TestFile("ca.pem", ca.cert);
  EXPECT_EQ(Why({cert, key, authority}), "");
  EXPECT_EQ(Why({"", "", authority}), "");
  EXPECT_THAT(Why({cert, TestFile("other.pem", other.key)}),
              AllOf(HasSubstr("other.pem"), HasSubstr("mismatch")));
  EXPECT_THAT(Why({TestFile("expired.pem", expired.cert), TestFile("expired.key", expired.key)}),
              AllOf(HasSubstr("expired.pem"), HasSubstr("expired on")));
  EXPECT_THAT(Why({TestFile("none.pem", "hello"), key}), HasSubstr("expected certificates in PEM"));
  EXPECT_THAT(Why({cert, TestFile("none.key", own.cert)}), HasSubstr("expected a private key"));
  EXPECT_THAT(Why({cert, key, TestFile("none.ca", "")}), HasSubstr("none.ca"));
  EXPECT_THAT(Why({cert, ""}), HasSubstr("together"));
  EXPECT_THAT(Why({cert, test::TestPath("absent")}), HasSubstr("absent"));
}

TEST(TlsTest, ACertificateNamesWhatItIsFor) {
  const Certificate ca = MakeCertificate({.name = "authority"});
  EXPECT_EQ(CertifiedName(MakeCertificate({.name = "llm.example", .by = &ca}).cert), "llm.example");
  EXPECT_EQ(CertifiedName(ca.cert), "authority");  // no subjectAltName
  EXPECT_EQ(CertifiedName("hello"), "");
}

TEST(TlsTest, TellsWhetherAClientIsLetIn) {
  const Certificate ca = MakeCertificate({.name = "a"}), other = MakeCertificate({.name = "b"});
  const Certificate client = MakeCertificate({.by = &ca, .client = true});
  const Certificate server = MakeCertificate({.by = &ca});
  EXPECT_TRUE(CheckAsClient(client.cert, ca.cert).ok());
  EXPECT_THAT(Message(CheckAsClient(client.cert, other.cert)), HasSubstr("issuer"));
  EXPECT_THAT(Message(CheckAsClient(server.cert, ca.cert)), HasSubstr("purpose"));
}

TEST(TlsTest, ReadsFilesAgainAndKeepsWhatWasGood) {
  const Certificate ca = MakeCertificate(), first = MakeCertificate({.by = &ca});
  const Certificate second = MakeCertificate({.by = &ca});
  const TlsFiles files{TestFile("cert.pem", first.cert), TestFile("key.pem", first.key)};
  auto store = TlsStore::Open(files);
  ASSERT_TRUE(store.ok()) << store.status();
  const auto before = (*store)->Get();
  EXPECT_EQ((*store)->Get(), before);
  ASSERT_TRUE(WriteFile(files.cert, second.cert).ok());  // whose key is still to come
  std::filesystem::last_write_time(files.cert, {});
  EXPECT_EQ((*store)->Get(), before);
  ASSERT_TRUE(WriteFile(files.key, second.key).ok());
  std::filesystem::last_write_time(files.key, {});
  EXPECT_EQ((*store)->Get()->cert, second.cert);
  std::filesystem::remove(files.key);
  EXPECT_EQ((*store)->Get()->cert, second.cert);
}

}  // namespace
}  // namespace trireme
