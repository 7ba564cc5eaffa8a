#include "server/listen_address.h"

#include <gtest/gtest.h>

#include "server/controller_service.h"

namespace trireme {
namespace {

TEST(CheckAddress, TakesAHostAndAPort) {
  for (const char* good : {"127.0.0.1:1", "node7.cluster:65535", "[::1]:8070", "[::]:80"}) {
    EXPECT_TRUE(CheckAddress(good, 1).ok()) << good;
  }
  EXPECT_TRUE(CheckAddress("127.0.0.1:0", 0).ok());
  for (const char* bad : {"127.0.0.1", "127.0.0.1:", ":x", "h:-1", "h:0", "h:65536", "h:99999",
                          "h:80 ", "::1:80", "::1", "unix:/tmp/socket", "dns:///h:80"}) {
    const absl::Status status = CheckAddress(bad, 1);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_EQ(status.message(),
              StrCat("expected HOST:PORT with a port from 1 to 65535, not ", bad));
  }
  EXPECT_EQ(CheckAddress("", 0).message(),
            "expected HOST:PORT with a port from 0 to 65535, not an empty text");
}

TEST(ControllerService, ListensOnNoPortBeyondTheLast) {
  const auto service = ControllerService::Start({.address = "127.0.0.1:99999"});
  EXPECT_EQ(service.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(service.status().message(),
            "expected HOST:PORT with a port from 0 to 65535, not 127.0.0.1:99999");
}

}  // namespace
}  // namespace trireme
