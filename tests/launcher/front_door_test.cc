#include "launcher/front_door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "comm/end_job.h"

namespace trireme {
namespace {

TEST(DialAddress, AWildcardBecomesAHostThatCanBeDialled) {
  EXPECT_EQ(DialAddress("10.0.0.7:80", true), "10.0.0.7:80");
  EXPECT_EQ(DialAddress("0.0.0.0:8070", false), "127.0.0.1:8070");
  EXPECT_EQ(DialAddress("[::]:8070", false), "127.0.0.1:8070");
  EXPECT_EQ(DialAddress("0.0.0.0:8070", true), HostName() + ":8070");
}

// What is wrong with these flags; empty: nothing.
std::string Refusal(std::vector<std::string> arguments, bool draws_secret = true) {
  FrontDoor door;
  CLI::App app;
  door.AddFlags(app);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  app.parse(arguments);
  return Message(door.Check(draws_secret));
}

TEST(FrontDoor, OtherHostsDialByTlsOrWithKeysOrWhereThatWasAskedFor) {
  EXPECT_EQ(Refusal({}), "");
  EXPECT_EQ(Refusal({"--grpc-addr", "[::1]:1", "--http-addr", "localhost:1"}), "");
  for (const char* flag : {"--grpc-addr", "--http-addr"}) {
    EXPECT_THAT(Refusal({flag, "0.0.0.0:1"}), testing::HasSubstr("other hosts can dial it"));
    EXPECT_EQ(Refusal({flag, "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"}), "");
    EXPECT_EQ(Refusal({flag, "0.0.0.0:1", "--api-keys", "keys.txt"}), "");
    EXPECT_EQ(Refusal({flag, "0.0.0.0:1", "--insecure"}), "");
  }
  EXPECT_EQ(Refusal({"--admin-addr", "0.0.0.0:1"}), "");  // no prompts there
}

TEST(FrontDoor, NobodyJoinsAsAReplicaUnlessThatWasAskedFor) {
  const std::vector<std::string> keys = {"--grpc-addr", "0.0.0.0:1", "--api-keys", "keys.txt"};
  const auto refusal = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = keys;
    all.insert(all.end(), more.begin(), more.end());
    return Refusal(all, /*draws_secret=*/false);
  };
  EXPECT_THAT(refusal({}), testing::HasSubstr("could join as a replica"));
  EXPECT_THAT(refusal({"--tls-cert", "c", "--tls-key", "k"}), testing::HasSubstr("could join"));
  EXPECT_EQ(refusal({"--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"}), "");
  EXPECT_EQ(refusal({"--replica-secret", "s"}), "");
  EXPECT_EQ(refusal({"--insecure"}), "");
  EXPECT_EQ(Refusal({"--http-addr", "0.0.0.0:1", "--api-keys", "k"}, false), "");
}

TEST(FrontDoor, ACertificateComesWithItsKey) {
  EXPECT_THAT(Refusal({"--tls-cert", "c"}), testing::HasSubstr("together"));
  EXPECT_THAT(Refusal({"--tls-key", "k"}), testing::HasSubstr("together"));
  EXPECT_THAT(Refusal({"--tls-client-ca", "a"}), testing::HasSubstr("--tls-cert"));
}

}  // namespace
}  // namespace trireme
