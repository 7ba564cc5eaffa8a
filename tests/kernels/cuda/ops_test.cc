// Verbs of the CUDA Ops against the CPU's, on the same inputs: rows, embedding, logits. Outputs of
// the device begin poisoned; each verb runs under several orders of threads.
#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/device_array.h"

namespace trireme::cuda {
namespace {

constexpr int64_t kRows[] = {0, 1, 3, 17};
constexpr int64_t kWidths[] = {1, 7, 8, 100, 2051};
const float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

Ops& Cuda() {
  static const std::unique_ptr<Ops> ops = [] {
    auto made = MakeCudaOps({.max_tokens = 32, .max_rows = 4, .max_vocab = 100}, nullptr);
    if (!made.ok()) ADD_FAILURE() << made.status();
    return std::move(*made);
  }();
  return *ops;
}

Array Result(const DeviceArray& array) {
  Cuda().Synchronize();
  return Download(array);
}

// Each element within `units` roundings at the magnitude of the CPU's.
void ExpectNear(const Array& found, const Array& expected, double units, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (int64_t i = 0; i < found.size(); ++i) {
    const double magnitude = std::max(1e-3, std::fabs(static_cast<double>(expected.at(i))));
    ASSERT_NEAR(found.at(i), expected.at(i), Tolerance(expected->dtype(), magnitude, units))
        << what << ", element " << i;
  }
}

class CudaOpsTest : public testing::TestWithParam<DType> {
 protected:
  // f(rows, width, seed) over shapes that no pack or block divides, in several orders of threads.
  void ForShapes(const std::function<void(int64_t, int64_t, uint32_t)>& f) {
    uint32_t seed = 0;
    for (const int64_t rows : kRows) {
      for (const int64_t width : kWidths) {
        OrderThreads(++seed);
        f(rows, width, seed);
      }
    }
  }
  DType type() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Types, CudaOpsTest, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST_P(CudaOpsTest, RmsNorm) {
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    const Array x = Random(type(), {rows, n}, seed), w = Random(DType::kF32, {n}, seed + 100);
    Array y(type(), {rows, n});
    PlainOps().RmsNorm(y, x, w, 1e-5f);
    const DeviceArray found(type(), {rows, n});
    Cuda().RmsNorm(found, Upload(x), Upload(w), 1e-5f);
    ExpectNear(Result(found), y, type() == DType::kF32 ? 16 : 1.01, StrCat(rows, " x ", n));
  });
}

TEST_P(CudaOpsTest, AddRmsNorm) {
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    const Array x = Random(type(), {rows, n}, seed), w = Random(DType::kF32, {n}, seed + 100);
    const Array r = Random(type(), {rows, n}, seed + 200), sum = Copy(r);
    Array y(type(), {rows, n});
    PlainOps().AddRmsNorm(y, sum, x, w, 1e-5f);
    const DeviceArray found(type(), {rows, n}), residual = Upload(r);
    Cuda().AddRmsNorm(found, residual, Upload(x), Upload(w), 1e-5f);
    ExpectNear(Result(found), y, type() == DType::kF32 ? 16 : 1.01, StrCat(rows, " x ", n));
    EXPECT_TRUE(SameBits(Result(residual), sum));
  });
}

TEST_P(CudaOpsTest, Add) {
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    const Array x = Random(type(), {rows, n}, seed), r = Random(type(), {rows, n}, seed + 200);
    const DeviceArray found = Upload(r);
    Cuda().Add(found, Upload(x));
    PlainOps().Add(r, x);
    EXPECT_TRUE(SameBits(Result(found), r));
  });
}

TEST_P(CudaOpsTest, GatedAct) {
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    const Array x = Random(type(), {rows, 2 * n}, seed, 5);
    Array y(type(), {rows, n});
    PlainOps().GatedAct(y, x, Activation::kSilu);
    const DeviceArray found(type(), {rows, n});
    Cuda().GatedAct(found, Upload(x), Activation::kSilu);
    ExpectNear(Result(found), y, type() == DType::kF32 ? 8 : 1.01, StrCat(rows, " x ", n));
  });
}

TEST_P(CudaOpsTest, InfinityAndNanStayInTheirRow) {
  Array x = Random(type(), {3, 40}, 1);
  x.set(3, kInf);
  x.set(40 + 5, kNaN);
  const Array w = Random(DType::kF32, {40}, 2);
  Array y(type(), {3, 40});
  PlainOps().RmsNorm(y, x, w, 1e-5f);
  const DeviceArray found(type(), {3, 40});
  Cuda().RmsNorm(found, Upload(x), Upload(w), 1e-5f);
  const Array result = Result(found);
  for (int64_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(std::isnan(result.at(i)), std::isnan(y.at(i))) << i;
    EXPECT_TRUE(i < 80 || std::isfinite(result.at(i))) << i;
  }
}

TEST_P(CudaOpsTest, GatherRows) {
  for (const int64_t n : kWidths) {
    const Array x = Random(type(), {9, n}, 3), rows = Ints({8, 0, 3, 3});
    Array y(type(), {4, n});
    PlainOps().GatherRows(y, x, rows);
    const DeviceArray found(type(), {4, n});
    Cuda().GatherRows(found, Upload(x), Upload(rows));
    EXPECT_TRUE(SameBits(Result(found), y)) << n;
  }
}

TEST_P(CudaOpsTest, Dropout) {
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    std::vector<DropoutRow> dropout;
    for (int32_t t = 0; t < rows; ++t) {
      const float p = t % 4 == 0 ? 0.0f : t % 4 == 1 ? 1.0f : 0.3f;
      dropout.push_back({p, seed * 0x123456789u + static_cast<uint64_t>(t), 5 * t});
    }
    const Array x = Random(type(), {rows, n}, seed);
    const DeviceArray found = Upload(x);
    Cuda().Dropout(found, dropout, 11);
    PlainOps().Dropout(x, dropout, 11);
    EXPECT_TRUE(SameBits(Result(found), x)) << rows << " x " << n;
  });
}

TEST_P(CudaOpsTest, SumParts) {
  const std::vector<uint8_t> merges = {0, 1, 0, 1, 1};
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    std::vector<Array> parts;
    std::vector<DeviceArray> on_device;
    std::vector<const float*> host_pointers, device_pointers;
    for (uint32_t p = 0; p < merges.size(); ++p) {
      parts.push_back(Random(DType::kF32, {rows, n}, seed * 10 + p));
      on_device.push_back(Upload(parts.back()));
      host_pointers.push_back(parts.back()->f32());
      device_pointers.push_back(on_device.back()->f32());
    }
    const Array bias = Random(DType::kF32, {n}, seed);
    Array y(type(), {rows, n});
    PlainOps().SumParts(y, host_pointers, merges, bias->f32());
    const DeviceArray found(type(), {rows, n}), device_bias = Upload(bias);
    Cuda().SumParts(found, device_pointers, merges, device_bias->f32());
    EXPECT_TRUE(SameBits(Result(found), y)) << rows << " x " << n;
  });
}

TEST_P(CudaOpsTest, Embed) {
  const Array ids = Ints({7, 50, 110, 56, 57, 17, 106, 6, 107});
  for (const DType w_type : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int64_t n : {1, 21, 64}) {
      const Array w = Random(w_type, {50, n}, 1);
      Array y(type(), {9, n});
      PlainOps().Embed(y, ids, *PackOf(PlainOps(), w, {.dtype = w_type}), 7);
      const DeviceArray found(type(), {9, n});
      const auto packed = PackOf(Cuda(), w, {.dtype = w_type});
      Cuda().Embed(found, Upload(ids), *packed, 7);
      EXPECT_TRUE(SameBits(Result(found), y)) << Name(w_type) << " " << n;
    }
  }
}

// ---- logits ----

Array Logits(int64_t rows, int64_t v, uint32_t seed) {
  return Random(DType::kF32, {rows, v}, seed, 3);
}

TEST(CudaVocabTest, DrawsTheIdsOfTheCpu) {
  uint32_t seed = 0;
  for (const int64_t v : {1, 3, 255, 5003}) {
    for (const int64_t first_id : {0, 7}) {
      OrderThreads(++seed);
      const Array logits = Logits(6, v, seed);
      std::vector<Draw> draws;
      for (uint32_t i = 0; i < 6; ++i) {
        draws.push_back({i % 3 == 0 ? kInf : 0.5f * static_cast<float>(i), seed + i, i, i * 3});
      }
      std::vector<Scored> expected(6), found(6);
      PlainOps().SampleArgmax(expected, logits, draws, first_id);
      Cuda().SampleArgmax(found, Upload(logits), draws, first_id);
      for (size_t i = 0; i < 6; ++i) {
        EXPECT_EQ(found[i].id, expected[i].id) << v << " " << i;
        EXPECT_NEAR(found[i].score, expected[i].score, 1e-5 * (1 + std::fabs(expected[i].score)));
      }
    }
  }
}

TEST(CudaVocabTest, GreedyTiesNanAndInfinity) {
  const auto best = [](const std::vector<float>& logits) {
    const Draw greedy = {.inverse_temperature = kInf};
    Scored scored;
    const DeviceArray row = Upload(Floats(logits));
    Cuda().SampleArgmax({&scored, 1}, row->As({1, row->size()}), {&greedy, 1}, 100);
    return scored.id;
  };
  EXPECT_EQ(best({1, 3, 3, 2}), 101);
  EXPECT_EQ(best({kNaN, 1, kNaN}), 101);
  EXPECT_EQ(best({-kInf, -kInf}), 100);
  EXPECT_EQ(best({kNaN}), 100);
  EXPECT_EQ(best({0, kInf, kInf}), 101);
  Scored none;
  const Draw draw;
  Cuda().SampleArgmax({&none, 1}, Tensor(nullptr, DType::kF32, {1, 0}), {&draw, 1}, 5);
  EXPECT_EQ(none.id, -1);
}

TEST(CudaVocabTest, TopLogits) {
  uint32_t seed = 0;
  for (const int64_t v : {1, 5, 1000, 3001}) {
    for (const size_t m : {1, 5, 64, 1200, 4000}) {
      OrderThreads(++seed);
      Array logits = Logits(1, v, seed);
      for (int64_t i = 0; i < v; ++i) {  // many ties
        if (i % 3 != 0) logits.set(i, std::round(logits.at(i)));
      }
      if (v > 4) {
        logits.set(1, kNaN);
        logits.set(2, -kInf);
        logits.set(3, -0.0f);
        logits.set(4, 0.0f);
      }
      std::vector<Scored> expected(m), found(m);
      PlainOps().TopLogits(expected, logits->As({v}), 9);
      Cuda().TopLogits(found, Upload(logits)->As({v}), 9);
      for (size_t i = 0; i < m; ++i) {
        ASSERT_EQ(found[i].id, expected[i].id) << v << " " << m << " " << i;
        ASSERT_EQ(found[i].score, expected[i].score) << v << " " << m << " " << i;
      }
    }
  }
}

TEST(CudaVocabTest, BanAndMaskAfter) {
  const Array logits = Floats({1, 5, 3, 3, 3, kNaN, 2, kInf, 4});
  const DeviceArray found = Upload(logits);
  const std::vector<int32_t> banned = {99, 108, 109, 108};
  Cuda().Ban(found, banned, 100);
  Cuda().MaskAfter(found, {3, 103}, 100);
  PlainOps().Ban(logits, banned, 100);
  PlainOps().MaskAfter(logits, {3, 103}, 100);
  EXPECT_TRUE(SameBits(Result(found), logits));
}

TEST(CudaVocabTest, ExpSums) {
  const Array logits = Logits(1, 3000, 5);
  logits->f32()[7] = kNaN;
  const std::vector<int64_t> bounds = {0, 1, 1, 1500, 3000};
  std::vector<float> expected(4), found(4);
  PlainOps().ExpSums(expected, logits->As({3000}), bounds, 12, 0.7f);
  Cuda().ExpSums(found, Upload(logits)->As({3000}), bounds, 12, 0.7f);
  for (size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(found[c], expected[c], 1e-5 * expected[c]) << c;
  }
}

TEST(CudaDeviceTest, NamesADeviceThatIsNotThere) {
  const absl::Status status = MakeCudaOps({.device = 7}, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(status), "CUDA device 7: expected 0 to 0");
}

TEST(CudaDeviceTest, UploadsAndDownloadsMoreThanTheRingHolds) {
  const int64_t n = (int64_t{9} << 20) / 4 + 3;
  std::vector<float> values(static_cast<size_t>(n)), back(values.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const DeviceArray array(DType::kF32, {n});
  Cuda().Upload(array, values.data());
  const std::vector<float> sent = std::exchange(values, std::vector<float>(values.size()));
  Cuda().Download(back.data(), array);
  Cuda().Synchronize();
  EXPECT_EQ(back, sent);
}

}  // namespace
}  // namespace trireme::cuda
