// Which device a rank gets, and its share of the host.
#include "runtime/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

absl::StatusOr<Device> Open(DeviceKind kind) { return Device::Open(kind, {.n_threads = 1}, {}, 0); }

// The tests' build has no CUDA; tests/e2e/emulated.py tries one that has.
TEST(DeviceTest, WithoutCudaAutoIsTheCpuAndCudaIsRefused) {
  for (const DeviceKind kind : {DeviceKind::kAuto, DeviceKind::kCpu}) {
    const auto device = Open(kind);
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ(&device->ops(), &device->host());
    EXPECT_THAT(device->name(), testing::StartsWith("cpu AVX"));
  }
  const absl::Status status = Open(DeviceKind::kCuda).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(status), testing::StartsWith("--device cuda: this build has no CUDA"));
}

TEST(DeviceTest, KvMemoryIsSharedByTheRanksOfAHost) {
  const auto device = Open(DeviceKind::kCpu);
  ASSERT_TRUE(device.ok());
  EXPECT_GT(device->KvBytes(1, 0.9), 0);
  EXPECT_LT(device->KvBytes(1000, 0.9), device->KvBytes(10, 0.9));
}

}  // namespace
}  // namespace trireme
