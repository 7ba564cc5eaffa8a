// Weights on the device and Linear over them, against the CPU's.
#include "kernels/cuda/linear.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cuda/kernels.h"
#include "kernels/sum_tree.h"
#include "tests/kernels/cuda/device_array.h"

namespace trireme::cuda {
namespace {

std::unique_ptr<CudaWeight> Load(const MatrixSource& source, const WeightSpec& spec,
                                 const WeightLoader::Options& options = {.n_threads = 2,
                                                                         .staging_bytes = 40000}) {
  auto weight = WeightLoader(TestWait(), options).Load(source, spec);
  EXPECT_TRUE(weight.ok()) << weight.status();
  return std::move(*weight);
}

// What a test of the product needs: the weight here and there.
struct Weights {
  Array w;
  WeightSpec spec;
  std::unique_ptr<Weight> cpu;
  std::unique_ptr<CudaWeight> cuda;

  Weights(const Array& matrix, const WeightSpec& with) : w(matrix), spec(with) {
    cpu = PackOf(PlainOps(), w, spec);
    cuda = Load(MemorySource(w), spec);
  }
  ~Weights() { cudaStreamSynchronize(TestStream()); }
};

constexpr GemmLt::Options kSmall = {.workspace_bytes = 1 << 16, .scratch_bytes = 1 << 20};

LinearDriver& Driver(bool exact) {
  static LinearDriver fast(TestStream(), kSmall);
  static LinearDriver one(TestStream(),
                          ExactGemm::Options{.max_rows = 33, .scratch_bytes = 1 << 20});
  return exact ? one : fast;
}

using Verb = std::function<void(Tensor y, Tensor x, const CudaWeight& w)>;

Array RunVerb(const Verb& linear, const Weights& w, const Array& x, DType y_type) {
  const int64_t rows = x->dim(0);
  const DeviceArray device_x = Upload(x);
  const DeviceArray y(y_type, {w.cuda->n_parts(), rows, w.cuda->n_out()});
  const Tensor shaped = w.cuda->n_parts() > 1 ? *y : y->As({rows, w.cuda->n_out()});
  linear(shaped, device_x, *w.cuda);
  return Download(y);
}
Array RunLinear(const Weights& w, const Array& x, DType y_type, bool exact) {
  return RunVerb([&](Tensor y, Tensor x, const CudaWeight& w) { Driver(exact).Run(y, x, w); }, w, x,
                 y_type);
}
Array RunGemv(const Weights& w, const Array& x, DType y_type) {
  return RunVerb([](Tensor y, Tensor x, const CudaWeight& w) { Gemv(y, x, w, TestStream()); }, w, x,
                 y_type);
}

// y against the CPU's: sums of k products in float32 in another order, rounded once to y's type.
void ExpectNear(const Array& y, const Weights& w, const Array& x) {
  const int64_t rows = x->dim(0), n = w.cuda->n_out(), k = w.cuda->n_in();
  const Array expected(DType::kF32, {w.cpu->n_parts(), rows, n});
  PlainOps().Linear(w.cpu->n_parts() > 1 ? *expected : expected->As({rows, n}), x, *w.cpu);
  ASSERT_EQ(y.size(), expected.size());
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t row = i / n % rows, column = i % n;
    double magnitude =
        w.spec.bias.empty() ? 0 : std::fabs(w.spec.bias[static_cast<size_t>(column)]);
    for (int64_t c = 0; c < k; ++c) {
      magnitude += std::fabs(double{x.at(row * k + c)} * w.w.at(column * k + c));
    }
    if (y->dtype() == DType::kF16 && std::fabs(expected.at(i)) > 65504) {
      ASSERT_GE(std::fabs(y.at(i)), 65472) << "beyond f16, or its largest";
      continue;
    }
    ASSERT_NEAR(y.at(i), expected.at(i),
                Tolerance(DType::kF32, magnitude, 2 * std::sqrt(static_cast<double>(k)) + 4) +
                    Tolerance(y->dtype(), std::fabs(expected.at(i)), 1))
        << "row " << row << " of " << rows << ", column " << column << ", k " << k << ", n " << n;
  }
}

constexpr int64_t kRows[] = {0, 1, 2, 7, 8, 9, 33};
constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr DType kActivations[] = {DType::kF32, DType::kBF16, DType::kF16};

// Of W, x and y; whether exact.
class CudaLinearTest : public testing::TestWithParam<std::tuple<DType, DType, DType, bool>> {};

TEST_P(CudaLinearTest, AgreesWithTheCpu) {
  const auto [w_type, x_type, y_type, exact] = GetParam();
  struct Shape {
    int64_t k, n;
  };
  uint32_t seed = 0;
  for (const Shape& s : {Shape{1, 1}, Shape{7, 5}, Shape{33, 31}, Shape{64, 32}, Shape{257, 40},
                         Shape{304, 97}, Shape{1032, 9}, Shape{2053, 3}}) {
    std::vector<float> bias;
    for (int64_t i = 0; i < s.n; ++i) bias.push_back(0.3f * static_cast<float>(i - 5));
    for (const bool with_bias : {false, true}) {
      const Weights w(Random(w_type, {s.n, s.k}, ++seed),
                      {.dtype = w_type, .bias = with_bias ? bias : std::vector<float>()});
      for (const int64_t rows : kRows) {
        OrderThreads(++seed);
        const Array x = Random(x_type, {rows, s.k}, seed);
        ExpectNear(RunLinear(w, x, y_type, exact), w, x);
      }
    }
  }
}

TEST_P(CudaLinearTest, ABiasThatTheWeightsTypeHoldsIsAddedOnce) {
  const auto [w_type, x_type, y_type, exact] = GetParam();
  const Weights w(Random(w_type, {19, 40}, 1),
                  {.dtype = w_type, .bias = std::vector<float>(19, 2.5f)});
  ASSERT_NE(w.cuda->own_bias(), nullptr);
  for (const int64_t rows : {1, 20}) {
    const Array x = Random(x_type, {rows, 40}, 2);
    ExpectNear(RunLinear(w, x, y_type, exact), w, x);
  }
}

TEST_P(CudaLinearTest, InfinityAndNanStayInTheirRow) {
  const auto [w_type, x_type, y_type, exact] = GetParam();
  Array ones(w_type, {33, 15});
  for (int64_t i = 0; i < ones.size(); ++i) ones.set(i, 1.0f);
  const Weights w(ones, {.dtype = w_type});
  for (const int64_t rows : {3, 4, 8, 30}) {
    Array x = Random(x_type, {rows, 15}, 4);
    for (int64_t c = 0; c < 15; ++c) x.set(c, c == 3 ? HUGE_VALF : 1e-42f);
    x.set(2 * 15, std::bit_cast<float>(0x7f800001u));  // a NaN by its last bit
    const Array y = RunLinear(w, x, y_type, exact);
    for (int64_t i = 0; i < y.size(); ++i) {
      if (i / 33 == 0) {
        ASSERT_EQ(y.at(i), HUGE_VALF) << i;
      } else {
        ASSERT_EQ(std::isnan(y.at(i)), i / 33 == 2) << i;
      }
    }
  }
}

TEST_P(CudaLinearTest, RowsOfAnyMagnitude) {
  const auto [w_type, x_type, y_type, exact] = GetParam();
  const Weights w(Random(w_type, {21, 70}, 1, 0.1f), {.dtype = w_type});
  for (const int64_t rows : {5, 29}) {
    Array x = Random(x_type, {rows, 70}, 2);
    for (int64_t i = 0; i < x.size(); ++i) {
      const float scales[] = {1.0f, 1e30f, 1e-30f, 7e5f, 1e-7f};
      const float f16_scales[] = {1.0f, 1e4f, 1e-6f, 100.0f, 1e-3f};
      x.set(i, x.at(i) * (x_type == DType::kF16 ? f16_scales : scales)[i / 70 % 5]);
    }
    ExpectNear(RunLinear(w, x, y_type, exact), w, x);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaLinearTest,
                         testing::Combine(testing::ValuesIn(kWeightTypes),
                                          testing::ValuesIn(kActivations),
                                          testing::ValuesIn(kActivations), testing::Bool()),
                         [](const auto& info) {
                           return StrCat("w_", Name(std::get<0>(info.param)), "_x_",
                                         Name(std::get<1>(info.param)), "_y_",
                                         Name(std::get<2>(info.param)),
                                         std::get<3>(info.param) ? "_exact" : "");
                         });

class CudaLinearPathTest : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Paths, CudaLinearPathTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "exact" : "fast"; });

TEST_P(CudaLinearPathTest, LeavesThePartsOfItsChunks) {
  struct Cut {
    std::vector<int64_t> bounds;
    std::vector<uint8_t> merges;
    int n_parts;
  };
  const Cut cuts[] = {{{0, 5, 5, 83}, {0, 1, 1}, 1},            // all chunks in one part
                      {{0, 3, 7, 83}, {0, 1, 0}, 2},            // cut inside a pack
                      {{0, 8, 40, 41, 83}, {0, 0, 0, 0}, 4},    // a part of one column
                      {{0, 32, 64, 83}, {0, 0, 1}, 2},          // cut at packs
                      {{0, 40, 40, 83, 83}, {0, 0, 0, 0}, 4}};  // parts without columns
  uint32_t seed = 0;
  for (const Cut& cut : cuts) {
    for (const DType w_type : kWeightTypes) {
      const Weights w(Random(w_type, {37, 83}, ++seed),
                      {.dtype = w_type, .col_bounds = cut.bounds, .merges = cut.merges});
      ASSERT_EQ(w.cuda->n_parts(), cut.n_parts);
      ASSERT_EQ(w.cuda->n_parts(), w.cpu->n_parts());
      for (const DType x_type : kActivations) {
        for (const int64_t rows : kRows) {
          OrderThreads(++seed);
          const Array x = Random(x_type, {rows, 83}, seed);
          ExpectNear(RunLinear(w, x, DType::kF32, GetParam()), w, x);
        }
      }
    }
  }
}

// Infinity on one side of a cut does not reach the part on the other side.
TEST_P(CudaLinearPathTest, PartsDoNotSeeEachOthersColumns) {
  for (const DType w_type : kWeightTypes) {
    Array ones(w_type, {9, 21});
    for (int64_t i = 0; i < ones.size(); ++i) ones.set(i, 1.0f);
    const Weights w(ones, {.dtype = w_type, .col_bounds = {0, 11, 21}, .merges = {0, 0}});
    for (const DType x_type : kActivations) {
      for (const int64_t rows : {2, 12}) {
        Array x(x_type, {rows, 21});
        for (int64_t i = 0; i < x.size(); ++i) x.set(i, i % 21 == 11 ? HUGE_VALF : 2.0f);
        const Array y = RunLinear(w, x, DType::kF32, GetParam());
        for (int64_t i = 0; i < y.size(); ++i) {
          ASSERT_EQ(y.at(i), i < y.size() / 2 ? 22.0f : HUGE_VALF) << i;
        }
      }
    }
  }
}

// What the terms of x leave when they cancel is rounded to y's type once, not once a term.
TEST_P(CudaLinearPathTest, TermsAddUpInFloat32) {
  Array plus_minus(DType::kBF16, {3, 17}), x(DType::kF32, {16, 17});
  for (int64_t i = 0; i < plus_minus.size(); ++i) plus_minus.set(i, i % 17 % 2 == 0 ? 1 : -1);
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t c = i % 17;
    x.set(i, c == 16 ? -7 * 0x1p-7f : c % 2 == 0 ? 1 + 0.9f * 0x1p-7f : 1.0f);
  }
  const Weights w(plus_minus, {.dtype = DType::kBF16});
  ExpectNear(RunLinear(w, x, DType::kBF16, GetParam()), w, x);
}

// Rows of the largest finite value, which no rounding may make infinite, and of zeros.
TEST_P(CudaLinearPathTest, TheLargestValueAndNone) {
  for (const DType w_type : kWeightTypes) {
    Array small(w_type, {9, 16}), x(DType::kF32, {12, 16});
    for (int64_t i = 0; i < small.size(); ++i) small.set(i, 0x1p-10f);
    for (int64_t i = 0; i < 16; ++i) x.set(i, std::numeric_limits<float>::max());
    const Weights w(small, {.dtype = w_type});
    ExpectNear(RunLinear(w, x, DType::kF32, GetParam()), w, x);
  }
}

TEST_P(CudaLinearPathTest, NoColumns) {
  const Weights w(Array(DType::kF32, {2, 0}), {.bias = {5, 6}});
  for (const int64_t rows : {3, 20}) {
    const Array y = RunLinear(w, Array(DType::kF32, {rows, 0}), DType::kF32, GetParam());
    for (int64_t i = 0; i < y.size(); ++i) ASSERT_EQ(y.at(i), i % 2 == 0 ? 5 : 6);
  }
}

// ---- exact ----

// x[first .. first + n), columns [begin, end)
Array Part(const Array& x, int64_t first, int64_t n, int64_t begin, int64_t end) {
  Array part(x->dtype(), {n, end - begin});
  for (int64_t i = 0; i < part.size(); ++i) {
    part.set(i, x.at((first + i / (end - begin)) * x->dim(1) + begin + i % (end - begin)));
  }
  return part;
}

// The chunks of `columns` among n, whatever they are multiples of.
std::vector<int64_t> Bounds(int64_t columns, int n) {
  std::vector<int64_t> bounds;
  for (int c = 0; c <= n; ++c) bounds.push_back(c * columns / n);
  return bounds;
}

struct Types {
  DType w, x;
};
class ExactTest : public testing::TestWithParam<Types> {};

INSTANTIATE_TEST_SUITE_P(
    Types, ExactTest,
    testing::Values(Types{DType::kBF16, DType::kBF16}, Types{DType::kBF16, DType::kF32},
                    Types{DType::kF16, DType::kF32}, Types{DType::kF16, DType::kBF16},
                    Types{DType::kF32, DType::kF32}, Types{DType::kF32, DType::kBF16},
                    Types{DType::kF16, DType::kF16}, Types{DType::kBF16, DType::kF16}),
    [](const auto& info) { return StrCat("w_", Name(info.param.w), "_x_", Name(info.param.x)); });

// One row, a few, a tile, several tiles: other kernels, the same arithmetic.
TEST_P(ExactTest, ARowsBitsDoNotDependOnTheOthers) {
  struct Shape {
    int64_t k, n;
    int n_chunks;
  };
  uint32_t seed = 0;
  for (const Shape& s :
       {Shape{200, 70, 1}, Shape{128, 17, 2}, Shape{203, 21, 5}, Shape{1096, 150, 8}}) {
    const Array matrix = Random(GetParam().w, {s.n, s.k}, ++seed);
    const Weights w(matrix, {.dtype = GetParam().w,
                             .col_bounds = Bounds(s.k, s.n_chunks),
                             .merges = SumTree(s.n_chunks).Merges({0, s.n_chunks}),
                             .bias = std::vector<float>(static_cast<size_t>(s.n), 0.7f)});
    const Array x = Random(GetParam().x, {140, s.k}, ++seed);
    OrderThreads(++seed);
    const Array all = RunLinear(w, x, DType::kF32, true);
    ExpectNear(all, w, x);
    for (const int64_t n : {1, 3, 8, 9, 64, 65}) {
      for (const int64_t first : {0, 3}) {
        OrderThreads(++seed);
        const Array some = RunLinear(w, Part(x, first, n, 0, s.k), DType::kF32, true);
        EXPECT_TRUE(SameBits(*some, all->As({140, s.n}).Rows(first, first + n)))
            << n << " rows, k " << s.k << ", " << s.n_chunks << " chunks";
      }
    }
  }
}

// Ranks have slices of the columns, which begin anywhere; their parts are finished along the tree.
TEST_P(ExactTest, ASumsBitsDoNotDependOnWhoHoldsItsChunks) {
  constexpr int64_t kOut = 37, kColumns = 437, kRowsOf[] = {2, 20, 70};
  uint32_t seed = 0;
  for (const int n_chunks : {8, 11, 40}) {  // 40: more than are held in registers
    const SumTree tree(n_chunks);
    const std::vector<int64_t> bounds = Bounds(kColumns, n_chunks);
    const Array matrix = Random(GetParam().w, {kOut, kColumns}, ++seed);
    const Weights whole(
        matrix,
        {.dtype = GetParam().w, .col_bounds = bounds, .merges = tree.Merges({0, n_chunks})});
    for (const int64_t rows : kRowsOf) {
      const Array x = Random(GetParam().x, {rows, kColumns}, ++seed);
      const Array expected = RunLinear(whole, x, DType::kF32, true);
      for (const int tp : {2, 3, 5}) {
        std::vector<Array> sums;
        std::vector<const float*> parts;
        std::vector<ChunkRange> cover;
        for (int r = 0; r < tp; ++r) {
          const ChunkRange own = {r * n_chunks / tp, (r + 1) * n_chunks / tp};
          const int64_t begin = bounds[static_cast<size_t>(own.begin)];
          const int64_t end = bounds[static_cast<size_t>(own.end)];
          WeightSpec spec{.dtype = GetParam().w, .merges = tree.Merges(own)};
          for (int c = own.begin; c <= own.end; ++c)
            spec.col_bounds.push_back(bounds[static_cast<size_t>(c)] - begin);
          const Weights slice(Part(matrix, 0, kOut, begin, end), spec);
          OrderThreads(++seed);
          sums.push_back(RunLinear(slice, Part(x, 0, rows, begin, end), DType::kF32, true));
          for (int p = 0; p < slice.cuda->n_parts(); ++p)
            parts.push_back(sums.back()->f32() + p * rows * kOut);
          for (const ChunkRange& range : tree.Cover(own)) cover.push_back(range);
        }
        const Array y(DType::kF32, {rows, kOut});
        PlainOps().SumParts(y, parts, tree.Finish(cover), nullptr);
        EXPECT_TRUE(SameBits(y, expected->As({rows, kOut})))
            << "tp " << tp << ", " << n_chunks << " chunks, " << rows << " rows";
      }
    }
  }
}

TEST(Exact, IsTheCpusArithmeticWithoutTensorCores) {
  uint32_t seed = 0;
  for (const Types& types : {Types{DType::kF32, DType::kF32}, Types{DType::kF32, DType::kBF16},
                             Types{DType::kF16, DType::kF32}, Types{DType::kF16, DType::kBF16},
                             Types{DType::kBF16, DType::kF16}, Types{DType::kF32, DType::kF16}}) {
    const Weights w(Random(types.w, {45, 150}, ++seed), {.dtype = types.w,
                                                         .col_bounds = Bounds(150, 7),
                                                         .merges = SumTree(7).Merges({0, 7}),
                                                         .bias = std::vector<float>(45, 0.3f)});
    for (const int64_t rows : {1, 9, 70}) {
      const Array x = Random(types.x, {rows, 150}, ++seed);
      for (const DType y_type : kActivations) {
        const Array expected(y_type, {rows, 45});
        PlainOps().Linear(expected, x, *w.cpu);
        EXPECT_TRUE(SameBits(RunLinear(w, x, y_type, true)->As({rows, 45}), expected))
            << Name(types.w) << " " << Name(types.x) << " " << rows;
      }
    }
  }
}

TEST(Exact, ScratchMemoryIsUsedSliceBySlice) {
  ExactGemm small(TestStream(), {.scratch_bytes = 8192});
  const auto run = [&](Tensor y, Tensor x, const CudaWeight& w) { small.Run(y, x, w); };
  const Weights w(
      Random(DType::kBF16, {30, 83}, 1),
      {.dtype = DType::kBF16, .col_bounds = Bounds(83, 6), .merges = SumTree(8).Merges({1, 7})});
  for (const int64_t rows : {5, 37}) {
    const Array x = Random(DType::kF32, {rows, 83}, 2);
    EXPECT_TRUE(SameBits(RunVerb(run, w, x, DType::kF32), RunLinear(w, x, DType::kF32, true)));
  }
}

// Which needs that nothing is allocated after the first.
TEST(Exact, RunsAfterTheFirstCanBeCaptured) {
  ExactGemm gemm(TestStream(), {.scratch_bytes = 1 << 20});
  const Weights w(Random(DType::kBF16, {30, 83}, 1), {.dtype = DType::kBF16});
  const DeviceArray x = Upload(Random(DType::kF32, {5, 83}, 2)), y(DType::kF32, {5, 30}),
                    again(DType::kF32, {5, 30});
  gemm.Run(y, x, *w.cuda);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(TestStream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  gemm.Run(again, x, *w.cuda);
  ASSERT_EQ(cudaStreamEndCapture(TestStream(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(exec, TestStream()), cudaSuccess);
  EXPECT_TRUE(SameBits(Download(again), Download(y)));
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

TEST(Gemv, ARowsBitsDoNotDependOnTheOthers) {
  struct Shape {
    int64_t k, n;
  };
  uint32_t seed = 0;
  for (const DType type : kWeightTypes) {
    // several warps an output; the last so many outputs that they would do with fewer for more rows
    for (const Shape& s : {Shape{1100, 41}, Shape{1099, 41}, Shape{512, 1501}}) {
      if (s.n > 1000 && type != DType::kBF16) continue;
      const Weights w(Random(type, {s.n, s.k}, ++seed), {.dtype = type});
      const Array x = Random(DType::kBF16, {kGemvRows + 3, s.k}, ++seed);
      const Array all = RunGemv(w, x, DType::kF32);
      for (const int64_t n : {1, 2, 3, 5, 8}) {
        Array some(DType::kBF16, {n, s.k});
        std::memcpy(some->raw(), x->raw(), some->bytes());
        OrderThreads(++seed);
        EXPECT_TRUE(
            SameBits(RunGemv(w, some, DType::kF32), all->As({kGemvRows + 3, s.n}).Rows(0, n)))
            << Name(type) << " " << n << " rows";
      }
    }
  }
}

TEST(GemmLt, MixedTypesGoThroughScratchMemorySliceBySlice) {
  GemmLt gemm(TestStream(), {.workspace_bytes = 0, .scratch_bytes = 4096});
  const auto run = [&](Tensor y, Tensor x, const CudaWeight& w) { EXPECT_TRUE(gemm.Run(y, x, w)); };
  for (const DType w_type : kWeightTypes) {
    const Array matrix = Random(w_type, {30, 83}, 1);
    const Weights w(matrix, {.dtype = w_type, .bias = std::vector<float>(30, 0.1f)});
    const Weights parts(matrix, {.dtype = w_type, .col_bounds = {0, 20, 83}, .merges = {0, 0}});
    for (const DType x_type : kActivations) {
      const Array x = Random(x_type, {37, 83}, 2);
      ExpectNear(RunVerb(run, w, x, DType::kBF16), w, x);
      ExpectNear(RunVerb(run, parts, x, DType::kF32), parts, x);
    }
  }
}

TEST(GemmLt, AsksForAnAlgorithmOnceAShape) {
  GemmLt gemm(TestStream(), kSmall);
  const auto run = [&](Tensor y, Tensor x, const CudaWeight& w) { EXPECT_TRUE(gemm.Run(y, x, w)); };
  const std::vector<float> ones(24, 1.0f);
  const Weights a(Random(DType::kBF16, {24, 64}, 1), {.dtype = DType::kBF16, .bias = ones});
  const Weights b(Random(DType::kBF16, {24, 64}, 2),
                  {.dtype = DType::kBF16, .bias = std::vector<float>(24, 4.0f)});
  const Array x = Random(DType::kBF16, {16, 64}, 3);
  ExpectNear(RunVerb(run, a, x, DType::kBF16), a, x);
  EXPECT_EQ(gemm.n_plans(), 1u);
  ExpectNear(RunVerb(run, b, x, DType::kBF16), b, x);  // the same shape, another weight and bias
  ExpectNear(RunVerb(run, a, x, DType::kBF16), a, x);
  EXPECT_EQ(gemm.n_plans(), 1u);
  RunVerb(run, a, Random(DType::kBF16, {17, 64}, 3), DType::kBF16);
  EXPECT_EQ(gemm.n_plans(), 2u);
}

TEST(Embed, ReadsRowsOfAWeight) {
  for (const DType w_type : kWeightTypes) {
    for (const int64_t k : {21, 24, 20}) {
      Array w = Random(w_type, {50, k}, 1);
      w.set(k * 10 + 3, -0.0f);
      const Weights weights(w, {.dtype = w_type});
      const Array ids = Ints({7, 50, 110, 56, 57, 17, 106, 6, 107, -1});
      const DeviceArray device_ids = Upload(ids);
      for (const DType y_type : kActivations) {
        const DeviceArray y(y_type, {10, k});
        Embed(y, device_ids, weights.cuda->rows(), 7, TestStream());
        const Array expected(y_type, {10, k});
        PlainOps().Embed(expected, ids, *weights.cpu, 7);
        EXPECT_TRUE(SameBits(Download(y), *expected)) << Name(w_type) << " " << k;
      }
    }
  }
}

// ---- loading ----

// Rows in memory, each to be read once.
class CountedSource : public MemorySource {
 public:
  explicit CountedSource(const Array& w)
      : MemorySource(w), reads_(static_cast<size_t>(w->dim(0))) {}
  absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
    for (int64_t i = row; i < row + n_rows; ++i) ++reads_[static_cast<size_t>(i)];
    return MemorySource::Read(row, n_rows, out);
  }
  bool EachOnce() const {
    return std::all_of(reads_.begin(), reads_.end(), [](const auto& n) { return n == 1; });
  }

 private:
  mutable std::vector<std::atomic<int>> reads_;
};

TEST(WeightLoader, RoundsToNearestEvenAndPadsRowsWithZero) {
  for (const int threads : {1, 3}) {
    for (const size_t staging_bytes : {400, 1500, 1 << 20}) {
      WeightLoader loader(TestWait(), {.n_threads = threads, .staging_bytes = staging_bytes});
      for (const DType from : kWeightTypes) {
        for (const DType to : kWeightTypes) {
          for (const int64_t k : {24, 37}) {
            const CountedSource source(Random(from, {50, k}, 9));
            const Array w = Random(from, {50, k}, 9);
            auto weight = loader.Load(source, {.dtype = to});
            ASSERT_TRUE(weight.ok()) << weight.status();
            EXPECT_TRUE(source.EachOnce());
            const int64_t stride = (*weight)->stride();
            EXPECT_EQ(stride * static_cast<int64_t>(SizeOf(to)) % 16, 0);
            Array rounded(to, {50, stride}), held(to, {50, stride});
            for (int64_t i = 0; i < w.size(); ++i) rounded.set(i / k * stride + i % k, w.at(i));
            cudaMemcpyAsync(held->raw(), (*weight)->rows().raw(), held->bytes(),
                            cudaMemcpyDeviceToHost, TestStream());
            cudaStreamSynchronize(TestStream());
            EXPECT_TRUE(SameBits(held, rounded)) << Name(from) << " to " << Name(to) << ", " << k
                                                 << " columns, " << staging_bytes << " bytes";
          }
        }
      }
    }
  }
}

TEST(WeightLoader, KeepsABiasInTheWeightsTypeOnlyWhereItHoldsIt) {
  const auto with = [](DType type, std::vector<float> bias) {
    return Load(MemorySource(Array(DType::kF32, {2, 3})), {.dtype = type, .bias = std::move(bias)});
  };
  for (const DType type : {DType::kBF16, DType::kF16}) {
    EXPECT_NE(with(type, {1.5f, -2.0f})->own_bias(), nullptr);
    EXPECT_EQ(with(type, {1.5f, 0.1f})->own_bias(), nullptr);
    EXPECT_EQ(with(type, {})->bias(), nullptr);
  }
  EXPECT_EQ(with(DType::kBF16, {1.0f, 1 + 0x1p-9f})->own_bias(), nullptr);
  EXPECT_EQ(with(DType::kF16, {1.0f, 70000.0f})->own_bias(), nullptr);
  const auto f32 = with(DType::kF32, {1.5f, 0.1f});
  EXPECT_EQ(f32->own_bias(), f32->bias());
  cudaStreamSynchronize(TestStream());
}

TEST(WeightLoader, PassesOnTheSourcesErrorAndRefusesABadSpec) {
  class Broken : public MemorySource {
   public:
    using MemorySource::MemorySource;
    absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
      return row <= 64 && 64 < row + n_rows ? DataLoss("the file ends")
                                            : MemorySource::Read(row, n_rows, out);
    }
  };
  WeightLoader loader(TestWait(), {.n_threads = 2, .staging_bytes = 256});
  const Array w = Random(DType::kF32, {200, 8}, 1);
  EXPECT_EQ(loader.Load(Broken(w), {}).status().code(), absl::StatusCode::kDataLoss);
  cudaStreamSynchronize(TestStream());  // nothing is copied to what was given up
  EXPECT_EQ(loader.Load(MemorySource(w), {.col_bounds = {0, 7}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto weight = loader.Load(MemorySource(w), {});  // the buffers are free again
  EXPECT_TRUE(weight.ok());
  cudaStreamSynchronize(TestStream());
}

}  // namespace
}  // namespace trireme::cuda
