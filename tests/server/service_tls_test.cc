// gRPC by TLS: who is let in, and what both sides say of who is not.
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/controller_service.h"
#include "server/generate_client.h"
#include "server/replica_client.h"
#include "tests/server/certificates.h"
#include "tests/server/collector.h"
#include "tests/server/fake_replica.h"
#include "tests/server/health_client.h"

namespace trireme {
namespace {

using test::Certificate;
using test::Collector;
using test::FakeReplica;
using test::MakeCertificate;
using test::TestFile;
using test::TestPath;
using testing::HasSubstr;

class ServiceTlsTest : public testing::Test {
 protected:
  void SetUp() override {
    Show("server", server_);
    auto service = ControllerService::Start(
        {.tls = {TestPath("server.pem"), TestPath("server.key"), TestFile("ca.pem", ca_.cert)},
         .version = "test"});
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  static TlsFiles Show(const std::string& name, const Certificate& certificate) {
    return {TestFile(name + ".pem", certificate.cert), TestFile(name + ".key", certificate.key)};
  }

  // One that shows `certificate` and trusts `ca`.
  static ClientTls As(const Certificate& certificate, const Certificate& ca) {
    ClientTls tls;
    tls.files = Show("client", certificate);
    tls.files.ca = TestFile("trusted.pem", ca.cert);
    return tls;
  }
  ClientTls As(const Certificate& certificate) const { return As(certificate, ca_); }

  // What a request comes to.
  std::string Ask(const ClientTls& tls) {
    auto channel = Dial(service_->address(), tls);
    if (!channel.ok()) return Message(channel.status());
    GenerateClient client({.channel = *channel});
    Collector collector;
    client.Generate({.text = "abc", .max_tokens = 3, .ignore_eos = true}, collector.callback());
    const auto log = collector.WaitEnd();
    return log.error.has_value() ? Message(Explain(*log.error, tls)) : "ok";
  }

  const Certificate ca_ = MakeCertificate({.name = "authority"});
  const Certificate other_ca_ = MakeCertificate({.name = "another authority"});
  const Certificate server_ = MakeCertificate({.by = &ca_});
  const Certificate client_ = MakeCertificate({.by = &ca_, .client = true});
  std::unique_ptr<ControllerService> service_;
};

TEST_F(ServiceTlsTest, LetsInWhoShowsACertificateOfItsAuthority) {
  FakeReplica replica(test::Info(), FakeReplica::kAny);
  ReplicaClient link(replica, {.controllers = {service_->address()}, .tls = As(client_)});
  link.Start();
  test::HealthWatch(*Dial(service_->address(), As(client_)), "").WaitFor(test::kServing);
  EXPECT_EQ(Ask(As(client_)), "ok");

  const Certificate stranger = MakeCertificate({.by = &other_ca_, .client = true});
  EXPECT_THAT(Ask(As(stranger)), HasSubstr("does it not take this certificate"));
  ClientTls none = As(client_);
  none.files.cert = none.files.key = "";
  EXPECT_THAT(Ask(none), HasSubstr("does it want a certificate"));
  EXPECT_THAT(Ask(As(client_, other_ca_)), HasSubstr("certificate verify failed"));
  EXPECT_THAT(Ask(ClientTls()), HasSubstr("does it want TLS"));
}

TEST_F(ServiceTlsTest, AServerOfAnotherNameIsNotTrusted) {
  ClientTls tls = As(client_);
  tls.server_name = "elsewhere";
  EXPECT_THAT(Ask(tls), HasSubstr("elsewhere"));
}

TEST_F(ServiceTlsTest, AReplicaOfAnotherAuthorityFindsNoController) {
  FakeReplica replica(test::Info(), FakeReplica::kAny);
  ReplicaClient link(replica, {.controllers = {service_->address()},
                               .tls = As(MakeCertificate({.by = &other_ca_, .client = true})),
                               .controller_timeout = std::chrono::milliseconds(200)});
  link.Start();
  const absl::Status end = link.Wait();
  EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(end), HasSubstr("no controller at"));
}

// New connections see what was put into the files; a file that is none changes nothing.
TEST_F(ServiceTlsTest, ShowsTheCertificateOfNow) {
  const auto trusts = [&](const Certificate& ca) {
    const std::string said = Ask(As(client_, ca));
    return said.find("verify failed") == std::string::npos;
  };
  EXPECT_TRUE(trusts(ca_));
  Show("server", MakeCertificate({.by = &other_ca_}));
  EXPECT_TRUE(trusts(other_ca_));
  EXPECT_FALSE(trusts(ca_));
  TestFile("server.pem", "hello");
  EXPECT_TRUE(trusts(other_ca_));
}

}  // namespace
}  // namespace trireme
