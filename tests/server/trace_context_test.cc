#include "server/trace_context.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trireme {
namespace {

constexpr char kCaller[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceContextTest, GoesOnWithTheCallersTrace) {
  const TraceContext trace = ContinueTrace(kCaller);
  EXPECT_EQ(trace.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(trace.parent_id, "00f067aa0ba902b7");
  EXPECT_TRUE(trace.sampled);
  EXPECT_EQ(trace.Header(), "00-" + trace.trace_id + "-" + trace.span_id + "-01");
  EXPECT_EQ(ContinueTrace(trace.Header()).parent_id, trace.span_id);
}

TEST(TraceContextTest, KeepsWhetherItIsRecorded) {
  std::string header = kCaller;
  header.back() = '2';
  EXPECT_FALSE(ContinueTrace(header).sampled);
  EXPECT_TRUE(ContinueTrace(header).Header().ends_with("-00"));
}

TEST(TraceContextTest, ReadsLaterVersions) {
  std::string later = kCaller;
  later[1] = '7';
  EXPECT_EQ(ContinueTrace(later + "-more").parent_id, "00f067aa0ba902b7");
}

TEST(TraceContextTest, BeginsATraceWhereThereIsNone) {
  const std::string whole = kCaller;
  std::string other_version = whole;
  other_version.replace(0, 2, "ff");
  std::string upper = whole;
  upper[3] = 'B';
  std::string zero = whole;
  zero.replace(36, 16, 16, '0');
  for (const std::string& header :
       {std::string(), whole.substr(1), whole + "-more", whole + "x", other_version, upper, zero,
        std::string(55, '-'), std::string(55, '0')}) {
    const TraceContext trace = ContinueTrace(header);
    EXPECT_EQ(trace.parent_id, "") << header;
    EXPECT_EQ(trace.trace_id.size(), 32u) << header;
    EXPECT_NE(trace.trace_id, whole.substr(3, 32)) << header;
    EXPECT_TRUE(trace.sampled);
  }
  EXPECT_NE(ContinueTrace("").trace_id, ContinueTrace("").trace_id);
}

}  // namespace
}  // namespace trireme
