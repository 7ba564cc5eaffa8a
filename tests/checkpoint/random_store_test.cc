// Random weights: the same for every slicing, of the promised distribution. And Concatenate().
#include <cmath>
#include <cstring>

#include "gtest/gtest.h"
#include "runtime/tensor_store.h"
#include "tests/checkpoint/test_files.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;

const std::vector<TensorSpec> kTensors = {
    {"w", {70, 53}}, {"u", {70, 53}}, {"norm.weight", {1000}}, {"q.bias", {1000}}};

std::vector<float> Read(const MatrixSource& source, int64_t row, int64_t n_rows) {
  const int64_t n = n_rows * source.cols();
  std::vector<std::byte> stored(static_cast<size_t>(n) * SizeOf(source.dtype()));
  CHECK(source.Read(row, n_rows, stored.data()).ok());
  std::vector<float> values(static_cast<size_t>(n));
  WidenToF32(stored.data(), source.dtype(), n, values.data());
  return values;
}

std::vector<float> All(const TensorStore& store, const std::string& name, Range rows, Range cols) {
  const auto source = store.Matrix(name, rows, cols);
  CHECK(source.ok()) << Message(source.status());
  return Read(**source, 0, rows.size());
}

TEST(RandomStore, AnySliceIsPartOfTheWhole) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const auto store = MakeRandomStore(kTensors, dtype);
    const std::vector<float> whole = All(*store, "w", {0, 70}, {0, 53});
    for (const Range rows : {Range{0, 70}, Range{3, 4}, Range{69, 70}, Range{5, 5}}) {
      for (int64_t begin : {0, 1, 2, 3, 4, 5, 50}) {
        for (int64_t end : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 51, 53}) {
          if (end < begin) continue;
          const std::vector<float> part = All(*store, "w", rows, {begin, end});
          for (int64_t r = rows.begin, i = 0; r < rows.end; ++r) {
            for (int64_t c = begin; c < end; ++c) ASSERT_EQ(part[i++], whole[r * 53 + c]);
          }
        }
      }
    }
    const auto source = store->Matrix("w", {10, 20}, {0, 53});
    EXPECT_EQ(Read(**source, 4, 1), All(*store, "w", {14, 15}, {0, 53}));
  }
}

TEST(RandomStore, NarrowDtypesRoundTheSameValues) {
  const auto wide = All(*MakeRandomStore(kTensors, DType::kF32), "w", {0, 70}, {0, 53});
  const auto bf16 = All(*MakeRandomStore(kTensors, DType::kBF16), "w", {0, 70}, {0, 53});
  const auto f16 = All(*MakeRandomStore(kTensors, DType::kF16), "w", {0, 70}, {0, 53});
  for (size_t i = 0; i < wide.size(); ++i) {
    EXPECT_EQ(bf16[i], FloatFromBf16(Bf16FromFloat(wide[i])));
    EXPECT_NEAR(f16[i], wide[i], std::abs(wide[i]) * 0x1p-11f + 0x1p-25f);
  }
}

TEST(RandomStore, HasMeanZeroAndDeviationTwoHundredths) {
  const auto store = MakeRandomStore({{"w", {512, 512}}}, DType::kF32);
  double sum = 0, squares = 0, next = 0, below = 0;
  const std::vector<float> values = All(*store, "w", {0, 512}, {0, 512});
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_LT(std::abs(values[i]), 0.035f);
    sum += values[i];
    squares += double{values[i]} * values[i];
    next += double{values[i]} * values[(i + 1) % values.size()];
    below += double{values[i]} * values[(i + 512) % values.size()];
  }
  const double n = static_cast<double>(values.size());
  EXPECT_NEAR(sum / n, 0, 2e-4);  // 5 standard errors
  EXPECT_NEAR(std::sqrt(squares / n), 0.02, 2e-4);
  EXPECT_NEAR(next / squares, 0, 0.01);  // neighbours are uncorrelated
  EXPECT_NEAR(below / squares, 0, 0.01);
}

TEST(RandomStore, TensorsDifferNormsAreNearOneBiasesNearZero) {
  const auto store = MakeRandomStore(kTensors, DType::kBF16);
  EXPECT_NE(All(*store, "w", {0, 1}, {0, 53}), All(*store, "u", {0, 1}, {0, 53}));
  const std::vector<float> norm = store->Vector("norm.weight", {0, 1000}).value();
  const std::vector<float> bias = store->Vector("q.bias", {0, 1000}).value();
  for (float value : norm) EXPECT_NEAR(value, 1, 0.035);
  for (float value : bias) EXPECT_NEAR(value, 0, 0.035);
  EXPECT_EQ(store->Vector("q.bias", {10, 20}).value(),
            std::vector<float>(bias.begin() + 10, bias.begin() + 20));
}

TEST(RandomStore, IsTheSameInEveryProcess) {
  const auto store = MakeRandomStore(kTensors, DType::kF32);
  constexpr float kUnit = 0.034641f / 32768;
  EXPECT_THAT(All(*store, "w", {1, 2}, {3, 6}),
              ElementsAre(-23421 * kUnit, 12448 * kUnit, 4284 * kUnit));
}

TEST(RandomStore, KnowsItsTensors) {
  const auto store = MakeRandomStore(kTensors, DType::kBF16);
  EXPECT_EQ(store->bytes(), (2 * 70 * 53 + 2000) * 2);
  EXPECT_TRUE(store->Expect(kTensors).ok());
  EXPECT_THAT(store->Expect({kTensors[0], kTensors[1], kTensors[2]}),
              IsError(kInvalid,
                      "the weights do not fit config.json: 1 tensor that the model does "
                      "not have: \"q.bias\""));
  EXPECT_THAT(store->Matrix("x", {0, 1}, {0, 1}).status(), IsError(kNotFound, "no tensor \"x\""));
  EXPECT_THAT(store->Matrix("w", {0, 71}, {0, 1}).status(),
              IsError(kInvalid, "tensor \"w\" has 70 rows, asked for 0 to 71"));
  EXPECT_THAT(store->Vector("w", {0, 1}).status(),
              IsError(kInvalid, "tensor \"w\" is [70,53], expected a vector"));
  EXPECT_EQ(store->Fingerprint(), MakeRandomStore(kTensors, DType::kBF16)->Fingerprint());
  EXPECT_NE(store->Fingerprint(), MakeRandomStore(kTensors, DType::kF32)->Fingerprint());
  EXPECT_NE(store->Fingerprint(), MakeRandomStore({kTensors[0]}, DType::kBF16)->Fingerprint());
}

// ---- Concatenate ----

std::unique_ptr<MatrixSource> Slice(const TensorStore& store, const std::string& name, Range rows) {
  return std::move(*store.Matrix(name, rows, {0, 53}));
}

TEST(Concatenate, ReadsAcrossItsSources) {
  const auto store = MakeRandomStore(kTensors, DType::kBF16);
  std::vector<std::unique_ptr<MatrixSource>> sources;
  sources.push_back(Slice(*store, "w", {0, 3}));
  sources.push_back(Slice(*store, "w", {9, 9}));
  sources.push_back(Slice(*store, "u", {5, 7}));
  sources.push_back(Slice(*store, "w", {8, 9}));
  const auto joined = Concatenate(std::move(sources));
  EXPECT_EQ(joined->rows(), 6);
  EXPECT_EQ(joined->cols(), 53);
  EXPECT_EQ(joined->dtype(), DType::kBF16);
  std::vector<float> expected = All(*store, "w", {0, 3}, {0, 53});
  for (const auto& part : {All(*store, "u", {5, 7}, {0, 53}), All(*store, "w", {8, 9}, {0, 53})}) {
    expected.insert(expected.end(), part.begin(), part.end());
  }
  for (int64_t begin = 0; begin <= 6; ++begin) {
    for (int64_t end = begin; end <= 6; ++end) {
      EXPECT_EQ(Read(*joined, begin, end - begin),
                std::vector<float>(expected.begin() + begin * 53, expected.begin() + end * 53));
    }
  }
}

TEST(Concatenate, WidensSourcesOfDifferentDtypes) {
  const auto narrow = MakeRandomStore(kTensors, DType::kF16);
  const auto wide = MakeRandomStore(kTensors, DType::kBF16);
  std::vector<std::unique_ptr<MatrixSource>> sources;
  sources.push_back(Slice(*narrow, "w", {0, 1}));
  sources.push_back(Slice(*wide, "w", {1, 2}));
  const auto joined = Concatenate(std::move(sources));
  EXPECT_EQ(joined->dtype(), DType::kF32);
  std::vector<float> expected = All(*narrow, "w", {0, 1}, {0, 53});
  const std::vector<float> second = All(*wide, "w", {1, 2}, {0, 53});
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(Read(*joined, 0, 2), expected);
}

TEST(Concatenate, PassesErrorsOn) {
  const TempDir dir;
  dir.Write("model.safetensors", Safetensors({{"w", "F32", {2, 1}, "abcdefgh"}}));
  const auto store = std::move(*OpenCheckpoint(dir.path()));
  std::vector<std::unique_ptr<MatrixSource>> sources;
  sources.push_back(std::move(*store->Matrix("w", {0, 1}, {0, 1})));
  sources.push_back(std::move(*store->Matrix("w", {1, 2}, {0, 1})));
  const auto joined = Concatenate(std::move(sources));
  std::vector<std::byte> out(8);
  EXPECT_TRUE(joined->Read(0, 2, out.data()).ok());
  EXPECT_EQ(std::memcmp(out.data(), "abcdefgh", 8), 0);
  const auto size = std::filesystem::file_size(dir / "model.safetensors");
  ASSERT_EQ(::truncate((dir / "model.safetensors").c_str(), static_cast<off_t>(size - 1)), 0);
  EXPECT_EQ(joined->Read(0, 2, out.data()).code(), kDataLoss);
}

}  // namespace
}  // namespace trireme
