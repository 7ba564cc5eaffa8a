#include "launcher/front_door.h"

#include <gtest/gtest.h>

#include "comm/end_job.h"

namespace trireme {
namespace {

TEST(DialAddress, AWildcardBecomesAHostThatCanBeDialled) {
  EXPECT_EQ(DialAddress("10.0.0.7:80", true), "10.0.0.7:80");
  EXPECT_EQ(DialAddress("0.0.0.0:8070", false), "127.0.0.1:8070");
  EXPECT_EQ(DialAddress("[::]:8070", false), "127.0.0.1:8070");
  EXPECT_EQ(DialAddress("0.0.0.0:8070", true), HostName() + ":8070");
}

}  // namespace
}  // namespace trireme
