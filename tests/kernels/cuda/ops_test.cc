// Verbs of the CUDA Ops against the CPU's, on the same inputs: rows, embedding, logits. Outputs of
// the device begin poisoned; each verb runs under several orders of threads.
#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/vocab.h"
#include "kernels/philox.h"
#include "tests/kernels/cuda/device_array.h"

namespace trireme::cuda {
namespace {

constexpr int64_t kRows[] = {0, 1, 3, 17};
constexpr int64_t kWidths[] = {1, 7, 8, 100, 2051};
const float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

Ops& Cuda() {
  static const std::unique_ptr<Ops> ops = [] {
    auto made = MakeCudaOps({.max_tokens = 32, .max_rows = 4}, nullptr);
    if (!made.ok()) ADD_FAILURE() << made.status();
    return std::move(*made);
  }();
  return *ops;
}

Array ScoredArray(const std::vector<Scored>& scores) {
  Array array(DType::kI32, {static_cast<int64_t>(scores.size()), 2});
  std::memcpy(array->raw(), scores.data(), scores.size() * sizeof(Scored));
  return array;
}
Scored ScoreAt(const Array& array, size_t i) {
  return reinterpret_cast<const Scored*>(array->i32())[i];
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
INSTANTIATE_TEST_SUITE_P(Types, CudaOpsTest,
                         testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST_P(CudaOpsTest, RmsNorm) {
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    const Array x = Random(type(), {rows, n}, seed), w = Random(DType::kF32, {n}, seed + 100);
    Array y(type(), {rows, n});
    PlainOps().RmsNorm(y, x, w, 1e-5f);
    const DeviceArray found(type(), {rows, n});
    Cuda().RmsNorm(found, Upload(x), Upload(w), 1e-5f);
    ExpectNear(Result(found), y, type() == DType::kF32 ? 16 : 2.01, StrCat(rows, " x ", n));
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
    ExpectNear(Result(found), y, type() == DType::kF32 ? 16 : 2.01, StrCat(rows, " x ", n));
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

TEST_P(CudaOpsTest, Activations) {
  for (const Activation act : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
      const Array x = Random(type(), {rows, 2 * n}, seed, 2);
      Array gated(type(), {rows, n}), plain(type(), {rows, 2 * n});
      PlainOps().GatedAct(gated, x, act);
      PlainOps().Act(plain, x, act);
      const DeviceArray in = Upload(x), found(type(), {rows, n}), all(type(), {rows, 2 * n});
      Cuda().GatedAct(found, in, act);
      Cuda().Act(all, in, act);
      // of float32: roundings of an exponent grow with it
      const double units = type() != DType::kF32 ? 2.01 : act == Activation::kSilu ? 8 : 200;
      ExpectNear(Result(found), gated, units, StrCat(rows, " x ", n));
      ExpectNear(Result(all), plain, units, StrCat(rows, " x ", n));
    });
  }
}

TEST_P(CudaOpsTest, LayerNorm) {
  ForShapes([&](int64_t rows, int64_t n, uint32_t seed) {
    Array x = Random(type(), {rows, n}, seed);
    for (int64_t i = 0; i < x.size(); ++i) x.set(i, x.at(i) + 3);
    const Array w = Random(DType::kF32, {n}, seed + 100), b = Random(DType::kF32, {n}, seed + 200);
    const Array r = Random(type(), {rows, n}, seed + 300);
    for (const bool with_bias : {false, true}) {
      const DeviceArray device_w = Upload(w), device_b = Upload(b), device_x = Upload(x);
      const Array y(type(), {rows, n}), added(type(), {rows, n}), sum = Copy(r);
      PlainOps().LayerNorm(y, x, w, with_bias ? *b : Tensor(), 1e-5f);
      PlainOps().AddLayerNorm(added, sum, x, w, with_bias ? *b : Tensor(), 1e-5f);
      const DeviceArray found(type(), {rows, n}), found_added(type(), {rows, n}),
          residual = Upload(r);
      Cuda().LayerNorm(found, device_x, device_w, with_bias ? *device_b : Tensor(), 1e-5f);
      Cuda().AddLayerNorm(found_added, residual, device_x, device_w,
                          with_bias ? *device_b : Tensor(), 1e-5f);
      EXPECT_TRUE(SameBits(Result(residual), sum));
      for (const auto& [mine, cpu] : {std::pair(Result(found), y), {Result(found_added), added}}) {
        for (int64_t i = 0; i < cpu.size(); ++i) {
          // float32: of what cancels; 16 bits: one rounding to the other side
          ASSERT_NEAR(mine.at(i), cpu.at(i),
                      4e-5 * (n == 1 ? 100 : 1) + (type() == DType::kF32 ? 0 : 2.01) *
                                                      Tolerance(type(), std::fabs(cpu.at(i)), 1))
              << rows << " x " << n << " element " << i;
        }
      }
    }
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
      const float p = t % 4 == 1 ? 0.0f : t % 4 == 2 ? 1.0f : 0.3f;
      dropout.push_back({p, seed * 0x123456789u + static_cast<uint64_t>(t), 5 * t});
    }
    const Array x = Random(type(), {rows, n}, seed);
    const DeviceArray found = Upload(x);
    Cuda().Dropout(found, dropout, 11);
    PlainOps().Dropout(x, dropout, 11);
    EXPECT_TRUE(SameBits(Result(found), x)) << rows << " x " << n;
  });
}

TEST_P(CudaOpsTest, DropoutKeepsADrawOfExactlyItsShare) {
  DropoutRow row;
  for (uint32_t draw = 1; draw % 256 != 0; row.p = static_cast<float>(draw) * 0x1p-32f) {
    draw = Philox(++row.seed, {0, 0, 11, kDropoutPurpose})[0];
  }
  const Array x = Random(type(), {1, 1}, 1);
  const DeviceArray found = Upload(x);
  Cuda().Dropout(found, {&row, 1}, 11);
  PlainOps().Dropout(x, {&row, 1}, 11);
  EXPECT_TRUE(SameBits(Result(found), x));
  EXPECT_NE(x.at(0), 0);
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
      const Array expected(DType::kI32, {6, 2});
      const DeviceArray best(DType::kI32, {6, 2});
      // Of every other row, some is cut off.
      std::vector<Scored> lasts(6);
      for (size_t i = 0; i < 6; i += 2) {
        lasts[i] = {logits.at(static_cast<int64_t>(i) * v + v / 2),
                    static_cast<int32_t>(first_id + v / 2)};
      }
      const Array cut = ScoredArray(lasts);
      PlainOps().DrawBest(expected, logits, draws, cut, first_id);
      Cuda().DrawBest(best, Upload(logits), draws, Upload(cut), first_id);
      const Array found = Result(best);
      for (size_t i = 0; i < 6; ++i) {
        const Scored want = ScoreAt(expected, i), have = ScoreAt(found, i);
        EXPECT_EQ(have.id, want.id) << v << " " << i;
        EXPECT_NEAR(have.score, want.score, 1e-5 * (1 + std::fabs(want.score)));
      }
    }
  }
}

// Cut off after the first of all ids, no other can be drawn.
TEST(CudaVocabTest, DrawsTheOnlyIdLeft) {
  std::vector<Draw> draws;
  for (uint64_t seed = 0; seed < 6; ++seed) draws.push_back({0.1f, seed});
  Array logits(DType::kF32, {6, 5});
  for (int64_t i = 0; i < logits.size(); ++i) logits.set(i, i % 5 == 0 ? 1.0f : 0.9f);
  const DeviceArray best(DType::kI32, {6, 2});
  const Array lasts = ScoredArray(std::vector<Scored>(6, {1, 0}));
  Cuda().DrawBest(best, Upload(logits), draws, Upload(lasts), 0);
  const Array found = Result(best);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(ScoreAt(found, i).id, 0) << i;
}

TEST(CudaVocabTest, GreedyTiesNanAndInfinity) {
  const auto best = [](const std::vector<float>& logits) {
    const Draw greedy = {.inverse_temperature = kInf};
    const DeviceArray row = Upload(Floats(logits)), scored(DType::kI32, {1, 2});
    Cuda().DrawBest(scored, row->As({1, row->size()}), {&greedy, 1}, Tensor(), 100);
    return ScoreAt(Result(scored), 0).id;
  };
  EXPECT_EQ(best({1, 3, 3, 2}), 101);
  EXPECT_EQ(best({kNaN, 1, kNaN}), 101);
  EXPECT_EQ(best({-kInf, -kInf}), 100);
  EXPECT_EQ(best({kNaN}), 100);
  EXPECT_EQ(best({0, kInf, kInf}), 101);
  const Draw draw;
  const DeviceArray none(DType::kI32, {1, 2});
  Cuda().DrawBest(none, Tensor(nullptr, DType::kF32, {1, 0}), {&draw, 1}, Tensor(), 5);
  EXPECT_EQ(ScoreAt(Result(none), 0).id, -1);
}

// Masses may differ in the last places: filters are chosen so that the cut does not.
TEST(CudaVocabTest, FindCutoffs) {
  uint32_t seed = 0;
  for (const std::vector<int64_t>& firsts :
       {std::vector<int64_t>{0, 1}, {9, 14}, {0, 3001}, {0, 0, 700, 700, 2900}, {3, 1500, 3000}}) {
    const auto n_shards = static_cast<int64_t>(firsts.size()) - 1;
    const int64_t v = firsts.back() - firsts.front(), rows = 5, width = v + 1;
    Array shards(DType::kF32, {n_shards, rows, width});
    const Array logits = Logits(rows, v, ++seed);
    for (int64_t s = 0; s < n_shards; ++s) {
      const int64_t first = firsts[static_cast<size_t>(s)],
                    end = firsts[static_cast<size_t>(s) + 1];
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < width; ++i) {
          const int64_t at = first - firsts.front() + i;
          float logit = kInf;  // past the end
          if (first + i < end) {
            logit = logits.at(r * v + at);
            if (r == 1) logit = std::round(logit);  // many ties
            if (r == 2 && at % 5 == 0) logit = at % 2 == 0 ? kNaN : -kInf;
            if (r == 3) logit = 1.5f;
            if (r == 4 && at % 4 == 1) logit = at % 8 == 1 ? -0.0f : 0.0f;
          }
          shards.set((s * rows + r) * width + i, logit);
        }
      }
    }
    for (const Filter& filter :
         {Filter{.top_k = 1}, Filter{.top_k = 7}, Filter{.top_k = static_cast<int32_t>(v / 2 + 1)},
          Filter{.top_k = 5000}, Filter{.top_p = 0.5f, .inverse_temperature = 0.3f},
          Filter{.top_p = 0.93f}, Filter{.top_p = 1e-6f}, Filter{.min_p = 0.07f},
          Filter{.min_p = 1}, Filter{.top_k = 11, .top_p = 0.7f, .inverse_temperature = 0.2f},
          Filter{.top_k = 40, .top_p = 0.8f, .min_p = 0.02f},
          Filter{.top_p = 0.999f, .inverse_temperature = 100}}) {
      OrderThreads(++seed);
      std::vector<Filter> filters;
      for (int32_t r = 0; r < rows; ++r) {
        filters.push_back(filter);
        filters.back().row = (r + 2) % static_cast<int32_t>(rows);
      }
      const Array expected(DType::kI32, {rows, 2});
      const DeviceArray lasts(DType::kI32, {rows, 2});
      PlainOps().FindCutoffs(expected, shards, firsts, filters);
      Cuda().FindCutoffs(lasts, Upload(shards), firsts, filters);
      const Array found = Result(lasts);
      for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
        EXPECT_EQ(ScoreAt(found, r).id, ScoreAt(expected, r).id)
            << "v " << v << " row " << r << " top_k " << filter.top_k << " top_p " << filter.top_p
            << " min_p " << filter.min_p;
        EXPECT_EQ(ScoreAt(found, r).score, ScoreAt(expected, r).score);
      }
    }
  }
}

// What is as likely as min_p says stays; the last of top_k may weigh nothing; shards up to the
// most.
TEST(CudaVocabTest, CutoffsAtTheirBounds) {
  const auto last = [](const std::vector<float>& logits, Filter filter) {
    const auto n = static_cast<int64_t>(logits.size());
    std::vector<int64_t> firsts;
    for (int64_t i = 0; i <= n; ++i) firsts.push_back(i);
    const DeviceArray found(DType::kI32, {1, 2}), shards = Upload(Floats(logits));
    Cuda().FindCutoffs(found, shards->As({n, 1, 1}), firsts, {&filter, 1});
    return ScoreAt(Result(found), 0).id;
  };
  EXPECT_EQ(last({0, -std::log(2.0f), -1}, {.min_p = 0.5f}), 1);
  EXPECT_EQ(last({0, -100, -200}, {.top_k = 2}), 1);
  EXPECT_EQ(last(std::vector<float>(kMostShards, 1), {.top_k = 3}), 2);
}

TEST(CudaVocabTest, Logprobs) {
  uint32_t seed = 0;
  for (const int64_t v : {1, 5, 40, 3000}) {
    const int64_t rows = 3;
    for (const int64_t n_shards : {1, 3}) {
      OrderThreads(++seed);
      const int64_t width = v + 2;  // in each of the shards
      Array shards = Random(DType::kF32, {n_shards, rows, width}, seed, 4);
      for (int64_t i = 0; i < shards.size(); i += 3) shards.set(i, std::round(shards.at(i)));
      if (v > 100) shards.set(7, kNaN), shards.set(20, -kInf);
      const int64_t first = n_shards == 1 ? 0 : 9;
      std::vector<int64_t> firsts = {first};
      for (int64_t s = 1; s <= n_shards; ++s) firsts.push_back(firsts.back() + (s == 2 ? 0 : v));
      const auto id = static_cast<int32_t>(n_shards == 1 ? 0 : firsts.back() - 1);
      const std::vector<LogprobRow> wanted = {{.row = 2, .id = id},
                                              {.row = 1, .id = -1, .n_top = 10},
                                              {.row = 0, .id = -1, .n_top = 20}};
      const auto draws = [&](int64_t i) { return static_cast<int32_t>(first + i); };
      const Array drawn = Ints({draws(0), draws(v / 2), -7});
      const Array expected(DType::kI32, {rows + 1, kLogprobs, 2});  // one that is left alone
      const DeviceArray logprobs = Upload(expected);
      PlainOps().Logprobs(expected->Rows(0, rows), shards, firsts, drawn, wanted);
      Cuda().Logprobs(logprobs->As({rows + 1, kLogprobs, 2}).Rows(0, rows), Upload(shards), firsts,
                      Upload(drawn), wanted);
      const Array found = Result(logprobs);
      for (size_t i = 0; i < static_cast<size_t>(rows + 1) * kLogprobs; ++i) {
        EXPECT_EQ(ScoreAt(found, i).id, ScoreAt(expected, i).id) << "v " << v << " " << i;
        const float score = ScoreAt(expected, i).score;
        if (std::isinf(score)) {
          EXPECT_EQ(ScoreAt(found, i).score, score) << "v " << v << " " << i;
        } else {
          EXPECT_NEAR(ScoreAt(found, i).score, score, 1e-6 * std::max(1.0f, -score))
              << "v " << v << " " << i;
        }
      }
    }
  }
}

TEST(CudaVocabTest, EditLogits) {
  constexpr int64_t kV = 150;
  const Array logits = Random(DType::kF32, {3, kV}, 5, 4);
  const DeviceArray found = Upload(logits);
  std::vector<LogitEdit> edits;
  for (int32_t row = 0; row < 3; ++row) {
    for (int32_t id = 99 - row; id < 100 + kV + 2; id += 1 + row) {
      const auto x = static_cast<float>(id % 7);
      edits.push_back({row, id, id % 5 == 0 ? -kInf : x - 3, 0.5f + x, 0.3f * x});
    }
  }
  Cuda().EditLogits(found, edits, 100);
  PlainOps().EditLogits(logits, edits, 100);
  EXPECT_TRUE(SameBits(Result(found), logits));
  const Array rest = Random(DType::kF32, {3, kV}, 6);
  const DeviceArray left_alone = Upload(rest);  // by edits further back
  Cuda().EditLogits(left_alone, std::vector<LogitEdit>{{.row = 0, .id = 99, .bias = 1}}, 100);
  EXPECT_TRUE(SameBits(Result(left_alone), rest));
}

TEST(CudaVocabTest, PickWinnersAndFeed) {
  constexpr int64_t kN = 300;
  for (const int64_t n_shards : {1, 2, 5}) {
    std::vector<Scored> scores;
    for (int64_t i = 0; i < n_shards * kN; ++i) {
      const bool none = i % 7 == 0 && i >= kN;
      scores.push_back({static_cast<float>(i * 31 % 5), static_cast<int32_t>(none ? -1 : i)});
    }
    const Array best = ScoredArray(scores), expected(DType::kI32, {kN});
    const DeviceArray ids(DType::kI32, {kN});
    PlainOps().PickWinners(expected, best->As({n_shards, kN, 2}));
    Cuda().PickWinners(ids, Upload(best)->As({n_shards, kN, 2}));
    EXPECT_TRUE(SameBits(Result(ids), expected));
  }
  Array ids = Ints(std::vector<int32_t>(kN, 0)), drawn = Ints(std::vector<int32_t>(kN, 0));
  for (int32_t i = 0; i < kN; ++i) {
    drawn->i32()[i] = 1000 + i;
    if (i % 3 == 0) ids->i32()[i] = ~((i * 7) % int32_t{kN});
  }
  const DeviceArray fed = Upload(ids);
  Cuda().Feed(fed, Upload(drawn));
  PlainOps().Feed(ids, drawn);
  EXPECT_TRUE(SameBits(Result(fed), ids));
}

// ---- graphs and copies back ----

TEST(CudaDeviceTest, ReplaysWhatWasRecorded) {
  Array x = Floats({1, 2, 3, 4});
  const DeviceArray device = Upload(x);
  int calls = 0;
  const auto double_it = [&] {
    ++calls;
    Cuda().Add(device->As({1, 4}), device->As({1, 4}));
  };
  for (int i = 0; i < 4; ++i) Cuda().Replay("double", double_it);
  EXPECT_EQ(calls, 2) << "run, then recorded";
  EXPECT_TRUE(SameBits(Result(device), Floats({16, 32, 48, 64})));
  Cuda().Replay("another", double_it);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(Result(device).at(0), 32);
}

TEST(CudaDeviceTest, ReadsBackWhatWasThereThen) {
  const DeviceArray x = Upload(Floats({1, 2}));
  const auto first = Cuda().MakeReadback(8), second = Cuda().MakeReadback(64);
  const auto value = [](std::span<const std::byte> bytes) {
    EXPECT_EQ(bytes.size(), 8u);
    float value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  };
  first->Start(x);
  Cuda().Add(x->As({1, 2}), x->As({1, 2}));
  second->Start(x);
  Cuda().Add(x->As({1, 2}), x->As({1, 2}));
  EXPECT_EQ(value(first->Wait()), 1);
  EXPECT_EQ(value(second->Wait()), 2);
  first->Start(Tensor());
  EXPECT_TRUE(first->Wait().empty());
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
