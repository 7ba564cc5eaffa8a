// What benches ask of the device: random values, both ways of Linear, time without the host's.
#include "kernels/cuda/probe.h"

#include <chrono>
#include <cmath>

#include "gmock/gmock.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/device_array.h"

namespace trireme::cuda {
namespace {

class CudaProbeTest : public testing::Test {
 protected:
  CudaProbeTest()
      : ops_(MakeCudaOps({.max_tokens = 32, .max_rows = 4}, nullptr).value()),
        probe_(MakeCudaProbe(*ops_, {.copy_bytes = 1 << 16, .matmul_size = 32})) {}

  Array Read(const DeviceArray& array) {
    ops_->Synchronize();
    return Download(array);
  }

  std::unique_ptr<Ops> ops_;
  std::unique_ptr<CudaProbe> probe_;
};

TEST_F(CudaProbeTest, FillsAllWithRandomValues) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const int64_t n : {1, 7, 1 << 20, (5 << 20) + 3}) {
      const DeviceArray device(type, {n});
      probe_->FillRandom(device);
      const Array array = Read(device);
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double x = array.at(i);
        ASSERT_TRUE(std::fabs(x) <= 1) << Name(type) << " " << i << " of " << n << ": " << x;
        sum += x;
        squares += x * x;
      }
      const auto size = static_cast<double>(n);
      EXPECT_NE(array.at(n - 1), 0);
      if (n < 1000) continue;
      EXPECT_NEAR(sum / size, 0, 0.01);
      EXPECT_NEAR(squares / size, 1.0 / 3, 0.01);
    }
  }
}

TEST_F(CudaProbeTest, BothWaysOfLinearAgree) {
  constexpr int64_t kRows = 3, kIn = 40, kOut = 24;
  const Array x = Random(DType::kBF16, {kRows, kIn}, 1);
  const std::unique_ptr<Weight> weight =
      PackOf(*ops_, Random(DType::kBF16, {kOut, kIn}, 2), {.dtype = DType::kBF16});
  const DeviceArray on_device = Upload(x), gemv(DType::kF32, {kRows, kOut}),
                    gemm(DType::kF32, {kRows, kOut}), linear(DType::kF32, {kRows, kOut});
  probe_->Gemv(gemv, on_device, *weight);
  ASSERT_TRUE(probe_->Gemm(gemm, on_device, *weight));
  ops_->Linear(linear, on_device, *weight);
  const Array expected = Read(linear), by_gemv = Read(gemv), by_gemm = Read(gemm);
  for (int64_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(by_gemv.at(i), expected.at(i), 1e-4) << i;
    EXPECT_NEAR(by_gemm.at(i), expected.at(i), 1e-4) << i;
  }
}

TEST_F(CudaProbeTest, MeasuresCeilings) {
  EXPECT_GT(probe_->CopyBandwidth(), 0);
  EXPECT_GT(probe_->MatmulRate(), 0);
}

#if __has_include("emulator/block.h")  // of a real device, a few milliseconds are hidden
TEST_F(CudaProbeTest, TimeIsTheDevicesAlone) {
  using Clock = std::chrono::steady_clock;
  const DeviceArray device(DType::kF32, {64});
  const double seconds = probe_->Seconds([&] {
    probe_->FillRandom(device);
    const auto start = Clock::now();
    while (Clock::now() - start < std::chrono::milliseconds(200)) {
    }
    probe_->FillRandom(device);
  });
  EXPECT_GT(seconds, 0);
  EXPECT_LT(seconds, 0.1);
}
#endif

}  // namespace
}  // namespace trireme::cuda
