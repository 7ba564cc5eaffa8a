// Linear, Embed and SumParts: against float64, and to the bit between every way of computing them.
#include <cmath>

#include "kernels/sum_tree.h"
#include "tests/kernels/ops_test_util.h"

namespace trireme {
namespace {

Array Zeros(DType type, std::initializer_list<int64_t> shape) { return Array(type, shape); }

struct Shape {
  int64_t t, k, n;
};
constexpr Shape kShapes[] = {{1, 64, 32},   {1, 1, 1},     {3, 7, 5},     {5, 33, 31},
                             {12, 100, 65}, {13, 257, 40}, {16, 300, 96}, {31, 513, 33},
                             {64, 128, 70}, {200, 96, 64}};

class LinearTest : public testing::TestWithParam<std::tuple<DType, DType, Shape>> {};

TEST_P(LinearTest, AgreesWithFloat64AndItself) {
  const auto [w_type, x_type, shape] = GetParam();
  const auto [t, k, n] = shape;
  const Array w = Random(w_type, {n, k}, 1);
  const Array x = Random(x_type, {t, k}, 2);
  const Array bias = Random(DType::kF32, {n}, 3);
  const WeightSpec spec = {.dtype = w_type,
                           .bias = std::vector<float>(bias->f32(), bias->f32() + n)};
  const Array expected = Zeros(x_type, {t, n});
  PlainOps().Linear(expected, x, *PackOf(PlainOps(), w, spec));
  for (int64_t i = 0; i < t; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = bias.at(j), magnitude = std::fabs(bias.at(j));
      for (int64_t c = 0; c < k; ++c) {
        const double term = double{x.at(i * k + c)} * w.at(j * k + c);
        sum += term;
        magnitude += std::fabs(term);
      }
      ASSERT_NEAR(expected.at(i * n + j), sum,
                  Tolerance(x_type, std::fabs(sum), 1) +
                      Tolerance(DType::kF32, magnitude, 2 * std::sqrt(double(k)) + 2))
          << "row " << i << " column " << j;
    }
  }
  for (NamedOps& other : AllOps()) {
    const Array y = Zeros(x_type, {t, n});
    const auto packed = PackOf(*other.ops, w, spec);
    other.ops->Linear(y, x, *packed);
    EXPECT_TRUE(SameBits(y, expected)) << other.name;
    // each row alone
    for (int64_t i = 0; i < t; i += 3) {
      const Array row = Zeros(x_type, {1, n});
      other.ops->Linear(row, x->Rows(i, i + 1), *packed);
      EXPECT_TRUE(SameBits(row, expected->Rows(i, i + 1))) << other.name << " row " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearTest,
                         testing::Combine(testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                                          testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                                          testing::ValuesIn(kShapes)),
                         [](const auto& info) {
                           const Shape s = std::get<2>(info.param);
                           return StrCat(Name(std::get<0>(info.param)), "_x_",
                                         Name(std::get<1>(info.param)), "_", s.t, "_", s.k, "_",
                                         s.n);
                         });

// The rule of ops.h, in plain scalar code.
float Chain(const Array& x, const Array& w, int64_t row, int64_t column, int64_t k) {
  float sum = 0;
  for (int64_t c = 0; c < k; ++c) sum = std::fma(x.at(row * k + c), w.at(column * k + c), sum);
  return sum;
}

TEST(Linear, IsOneFmaChainPerOutput) {
  for (DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Array w = Random(type, {37, 301}, 1), x = Random(DType::kF32, {14, 301}, 2);
    const Array y = Zeros(DType::kF32, {14, 37});
    PlainOps().Linear(y, x, *PackOf(PlainOps(), w, {.dtype = type}));
    for (int64_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(y.at(i), Chain(x, w, i / 37, i % 37, 301)) << Name(type) << " " << i;
    }
  }
}

TEST(Linear, InfinityAndNaNStayInTheirRow) {
  // odd chunks, so that pairs are padded: 0 * inf must not appear
  const WeightSpec spec = {.dtype = DType::kBF16, .col_bounds = {0, 3, 7, 15}, .merges = {0, 1, 1}};
  for (int64_t t : {1, 4, 30}) {
    Array w(DType::kBF16, {33, 15}), x = Random(DType::kF32, {t, 15}, 4);
    for (int64_t i = 0; i < w.size(); ++i) w.set(i, 1.0f);
    for (int64_t c = 0; c < 15; ++c) x.set(c, HUGE_VALF);
    if (t > 1) x.set(2 * 15 + 6, std::nanf(""));
    for (NamedOps& ops : AllOps()) {
      const Array y = Zeros(DType::kF32, {t, 33});
      ops.ops->Linear(y, x, *PackOf(*ops.ops, w, spec));
      for (int64_t i = 0; i < y.size(); ++i) {
        if (i / 33 == 0) {
          ASSERT_EQ(y.at(i), HUGE_VALF) << ops.name << " " << i;
        } else {
          ASSERT_EQ(std::isnan(y.at(i)), i / 33 == 2) << ops.name << " " << i;
        }
      }
    }
  }
}

TEST(Linear, NoRowsNoColumns) {
  const auto w = PackOf(PlainOps(), Random(DType::kF32, {8, 4}, 1), {.dtype = DType::kBF16});
  PlainOps().Linear(Zeros(DType::kF32, {0, 8}), Zeros(DType::kF32, {0, 4}), *w);
  const auto no_outputs = PackOf(PlainOps(), Zeros(DType::kF32, {0, 4}), {});
  PlainOps().Linear(Zeros(DType::kF32, {3, 0}), Zeros(DType::kF32, {3, 4}), *no_outputs);
  const auto no_inputs = PackOf(PlainOps(), Zeros(DType::kF32, {2, 0}), {.bias = {5, 6}});
  const Array y = Zeros(DType::kF32, {3, 2});
  PlainOps().Linear(y, Zeros(DType::kF32, {3, 0}), *no_inputs);
  EXPECT_EQ(y.at(4), 5);
  EXPECT_EQ(y.at(5), 6);
}

TEST(Linear, RoundsAWiderSourceToNearestEven) {
  for (DType from : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (DType to : {DType::kF32, DType::kBF16, DType::kF16}) {
      const Array source = Random(from, {40, 24}, 9);
      Array rounded(to, {40, 24});
      for (int64_t i = 0; i < source.size(); ++i) rounded.set(i, source.at(i));
      const Array x = Random(DType::kF32, {2, 24}, 5);
      const Array expected = Zeros(DType::kF32, {2, 40});
      PlainOps().Linear(expected, x, *PackOf(PlainOps(), rounded, {.dtype = to}));
      for (NamedOps& ops : AllOps()) {
        const Array y = Zeros(DType::kF32, {2, 40});
        ops.ops->Linear(y, x, *PackOf(*ops.ops, source, {.dtype = to}));
        EXPECT_TRUE(SameBits(y, expected)) << Name(from) << " to " << Name(to) << " " << ops.name;
      }
    }
  }
}

TEST(Linear, RefusesABadSpec) {
  const Array w = Random(DType::kF32, {8, 6}, 1);
  const auto status = [&](const WeightSpec& spec) {
    return PlainOps().Pack(MemorySource(w), spec).status().code();
  };
  EXPECT_EQ(status({.col_bounds = {0, 5}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({.col_bounds = {0, 4, 3, 6}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({.col_bounds = {0, 3, 6}, .merges = {0}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({.col_bounds = {0, 3, 6}, .merges = {1, 0}}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({.bias = {1, 2}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({.dtype = DType::kI32}), absl::StatusCode::kInvalidArgument);
}

// Chunks of K cut among ranks in any way, finished by SumParts: the same bits as one rank with all.
class SumTreeCutTest : public testing::TestWithParam<int> {};

TEST_P(SumTreeCutTest, EveryCutOfTheChunksGivesTheSameBits) {
  const int n_chunks = GetParam();
  const int64_t k = 3 * n_chunks - n_chunks / 2, n = 37, t = 14;  // some chunks odd, uneven
  const SumTree tree(n_chunks);
  std::vector<int64_t> bounds;
  for (int i = 0; i <= n_chunks; ++i) bounds.push_back(i * k / n_chunks);
  if (n_chunks > 4) bounds[2] = bounds[3];  // an empty chunk
  const Array w = Random(DType::kBF16, {n, k}, 1), x = Random(DType::kBF16, {t, k}, 2);
  std::vector<float> bias(n, 0.25f);
  const Array expected = Zeros(DType::kBF16, {t, n});
  PlainOps().Linear(expected, x,
                    *PackOf(PlainOps(), w,
                            {.dtype = DType::kBF16,
                             .col_bounds = bounds,
                             .merges = tree.Merges({0, n_chunks}),
                             .bias = bias}));
  std::mt19937 random(7);
  for (int n_ranks = 1; n_ranks <= n_chunks; ++n_ranks) {
    std::vector<int> cuts = {0, n_chunks};
    while (static_cast<int>(cuts.size()) <= n_ranks) {
      const int cut = static_cast<int>(random() % static_cast<unsigned>(n_chunks));
      if (std::find(cuts.begin(), cuts.end(), cut) == cuts.end()) cuts.push_back(cut);
      std::sort(cuts.begin(), cuts.end());
    }
    std::vector<Array> sums;
    std::vector<const float*> parts;
    std::vector<ChunkRange> covers;
    NamedOps& other = AllOps()[random() % AllOps().size()];
    for (int rank = 0; rank < n_ranks; ++rank) {
      const ChunkRange mine = {cuts[rank], cuts[rank + 1]};
      const int64_t begin = bounds[mine.begin], cols = bounds[mine.end] - begin;
      Array w_slice(DType::kBF16, {n, cols}), x_slice(DType::kBF16, {t, cols});
      for (int64_t i = 0; i < n * cols; ++i)
        w_slice.set(i, w.at(i / std::max<int64_t>(cols, 1) * k + begin + i % cols));
      for (int64_t i = 0; i < t * cols; ++i)
        x_slice.set(i, x.at(i / std::max<int64_t>(cols, 1) * k + begin + i % cols));
      WeightSpec spec = {.dtype = DType::kBF16, .merges = tree.Merges(mine)};
      for (int c = mine.begin; c <= mine.end; ++c) spec.col_bounds.push_back(bounds[c] - begin);
      const auto packed = PackOf(*other.ops, w_slice, spec);
      const auto cover = tree.Cover(mine);
      ASSERT_EQ(packed->n_parts(), static_cast<int>(cover.size()));
      sums.push_back(Zeros(DType::kF32, {packed->n_parts(), t, n}));
      other.ops->Linear(sums.back(), x_slice, *packed);
      for (size_t p = 0; p < cover.size(); ++p) {
        parts.push_back(sums.back()->f32() + static_cast<int64_t>(p) * t * n);
        covers.push_back(cover[p]);
      }
    }
    const Array y = Zeros(DType::kBF16, {t, n});
    other.ops->SumParts(y, parts, tree.Finish(covers), bias.data());
    EXPECT_TRUE(SameBits(y, expected)) << n_ranks << " ranks, " << other.name;
  }
}
INSTANTIATE_TEST_SUITE_P(Chunks, SumTreeCutTest, testing::Values(1, 2, 3, 5, 8, 12, 16, 32));

TEST(Linear, ManyRowsOverManyChunks) {
  // a prefill over 32 chunks longer than a block, against each row alone
  const SumTree tree(32);
  WeightSpec spec = {.dtype = DType::kBF16, .merges = tree.Merges({0, 32})};
  for (int i = 0; i <= 32; ++i) spec.col_bounds.push_back(i * 2500 / 32);
  const Array w = Random(DType::kBF16, {70, 2500}, 1), x = Random(DType::kF32, {230, 2500}, 2);
  const Array expected = Zeros(DType::kF32, {230, 70});
  const auto packed = PackOf(PlainOps(), w, spec);
  for (int64_t i = 0; i < 230; ++i)
    PlainOps().Linear(expected->Rows(i, i + 1), x->Rows(i, i + 1), *packed);
  for (NamedOps& ops : AllOps()) {
    const Array y = Zeros(DType::kF32, {230, 70});
    ops.ops->Linear(y, x, *PackOf(*ops.ops, w, spec));
    EXPECT_TRUE(SameBits(y, expected)) << ops.name;
  }
}

TEST(Embed, ReadsRowsOutOfThePackedMatrix) {
  for (DType w_type : {DType::kF32, DType::kBF16, DType::kF16}) {
    Array w = Random(w_type, {50, 21}, 1);
    w.set(21 * 10 + 3, -0.0f);
    const Array ids = Ints({7, 50, 110, 56, 57, 17, 106, 6, 107});
    for (NamedOps& ops : AllOps()) {
      const auto packed =
          PackOf(*ops.ops, w, {.dtype = w_type, .col_bounds = {0, 5, 5, 21}, .merges = {0, 1, 1}});
      for (DType y_type : {DType::kF32, DType::kBF16, DType::kF16}) {
        Array y = Random(y_type, {9, 21}, 3), expected(y_type, {9, 21});
        ops.ops->Embed(y, ids, *packed, 7);
        for (int64_t i = 0; i < y.size(); ++i) {
          const int64_t row = ids->i32()[i / 21] - 7;
          expected.set(i, 0 <= row && row < 50 ? w.at(row * 21 + i % 21) + 0.0f : 0.0f);
        }
        EXPECT_TRUE(SameBits(y, expected)) << ops.name;
      }
    }
  }
}

TEST(Pack, PassesOnTheSourcesError) {
  class Broken : public MemorySource {
   public:
    using MemorySource::MemorySource;
    absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
      return row == 64 ? DataLoss("the file ends") : MemorySource::Read(row, n_rows, out);
    }
  };
  for (NamedOps& ops : AllOps()) {
    const auto weight = ops.ops->Pack(Broken(Random(DType::kF32, {200, 8}, 1)), {});
    EXPECT_EQ(weight.status().code(), absl::StatusCode::kDataLoss) << ops.name;
  }
}

}  // namespace
}  // namespace trireme
