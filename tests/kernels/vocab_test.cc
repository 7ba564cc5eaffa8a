// The seeded draw, the largest logits, and sums of exponentials.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/philox.h"
#include "tests/kernels/ops_test_util.h"

namespace trireme {
namespace {

const float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

Scored SampleOne(Ops& ops, const Tensor& logits, const Draw& draw, int64_t first_id = 0) {
  Scored best;
  ops.SampleArgmax({&best, 1}, logits.As({1, logits.size()}), {&draw, 1}, first_id);
  return best;
}

// Units in the last place of `value`.
double Ulps(float value, double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return std::fabs(value - exact) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

double ExactGumbel(const Draw& draw, uint32_t id) {
  const uint32_t r =
      Philox(draw.seed, {id / 4, draw.token_index, draw.choice, kDrawPurpose})[id % 4];
  const double u = (r + 0.5) * 0x1p-32;
  return -std::log(-std::log1p(-u));
}

// A single logit of 0 scores the noise itself.
TEST(SampleArgmax, NoiseAgreesWithFloat64) {
  const Array zero = Floats({0});
  double worst = 0;
  for (uint32_t id = 0; id < 20000; ++id) {
    const Draw draw = {1, 42, 3, id / 100};
    const Scored best = SampleOne(PlainOps(), zero, draw, id);
    ASSERT_EQ(best.id, static_cast<int32_t>(id));
    const double exact = ExactGumbel(draw, id);
    // the inner logarithm's error counts in full where the outer one is near 0
    worst =
        std::max(worst, std::fabs(best.score - exact) / std::max(std::fabs(exact), 0.5) * 0x1p24);
  }
  EXPECT_LT(worst, 6);
}

TEST(SampleArgmax, AgreesBetweenBackendsAndCutsOfTheVocabulary) {
  const int64_t v = 5003;
  const Array logits = Random(DType::kF32, {v}, 1, 3);
  for (uint32_t i = 0; i < 50; ++i) {
    const Draw draw = {i % 5 == 0 ? kInf : 0.2f * static_cast<float>(i), i * 1234567u, i % 3, i};
    const Scored expected = SampleOne(PlainOps(), logits, draw, 7);
    for (NamedOps& ops : AllOps()) {
      const Scored whole = SampleOne(*ops.ops, logits, draw, 7);
      EXPECT_EQ(whole.id, expected.id) << ops.name;
      EXPECT_EQ(whole.score, expected.score) << ops.name;
      Scored best = {-kInf, -1};
      for (int64_t begin = 0; begin < v;) {
        const int64_t end = std::min<int64_t>(v, begin + 1 + (begin * 13 + i * 97) % 1777);
        const Array slice = Floats(std::vector<float>(logits->f32() + begin, logits->f32() + end));
        const Scored part = SampleOne(*ops.ops, slice, draw, 7 + begin);
        if (part.score > best.score || (part.score == best.score && part.id < best.id)) best = part;
        begin = end;
      }
      EXPECT_EQ(best.id, expected.id) << ops.name;
      EXPECT_EQ(best.score, expected.score) << ops.name;
    }
  }
}

// A row's winner is that of its ids one by one: no id is passed over that could have won.
TEST(SampleArgmax, IsTheBestOfItsIds) {
  for (uint32_t i = 0; i < 8; ++i) {
    const Array logits = Random(DType::kF32, {3000}, i, static_cast<float>(i));
    const Draw draw = {1, 1000 + i, 1, i};
    Scored best = {-kInf, -1};
    for (int64_t id = 0; id < logits.size(); ++id) {
      const Scored one = SampleOne(PlainOps(), logits->Rows(id, id + 1), draw, 5 + id);
      if (one.score > best.score) best = one;
    }
    const Scored whole = SampleOne(PlainOps(), logits, draw, 5);
    EXPECT_EQ(whole.id, best.id);
    EXPECT_EQ(whole.score, best.score);
  }
}

TEST(SampleArgmax, IsTheArgmaxOfTheFormula) {
  const int64_t v = 1000;
  const Array logits = Random(DType::kF32, {v}, 2, 2);
  for (uint32_t i = 0; i < 200; ++i) {
    const Draw draw = {1.25f, 99, 0, i};
    const Scored best = SampleOne(PlainOps(), logits, draw, 3);
    double top = -kInf, chosen = 0;
    for (int64_t id = 0; id < v; ++id) {
      const double score = logits.at(id) * 1.25 + ExactGumbel(draw, static_cast<uint32_t>(id + 3));
      top = std::max(top, score);
      if (id + 3 == best.id) chosen = score;
    }
    EXPECT_NEAR(chosen, top, 1e-5);
    EXPECT_NEAR(best.score, top, 1e-5);
  }
}

TEST(SampleArgmax, GreedyTiesNaNAndInfinity) {
  const Draw greedy = {kInf};
  for (NamedOps& ops : AllOps()) {
    std::vector<float> row(77, 1.0f);
    EXPECT_EQ(SampleOne(*ops.ops, Floats(row), greedy, 10).id, 10);
    row[40] = row[41] = row[70] = 2.0f;
    EXPECT_EQ(SampleOne(*ops.ops, Floats(row), greedy, 10).id, 50);
    row[3] = kNaN;
    EXPECT_EQ(SampleOne(*ops.ops, Floats(row), greedy, 10).id, 50);
    row[76] = kInf;
    EXPECT_EQ(SampleOne(*ops.ops, Floats(row), greedy, 10).id, 86);
    for (const Draw& draw : {greedy, Draw{1, 5, 0, 0}}) {
      EXPECT_EQ(SampleOne(*ops.ops, Floats(std::vector<float>(20, -kInf)), draw, 10).id, 10);
      EXPECT_EQ(SampleOne(*ops.ops, Floats(std::vector<float>(20, kNaN)), draw, 10).id, 10);
      EXPECT_EQ(SampleOne(*ops.ops, Floats({}), draw, 10).id, -1);
      std::vector<float> masked(33, -kInf);
      masked[17] = -1e30f;
      masked[18] = kNaN;
      EXPECT_EQ(SampleOne(*ops.ops, Floats(masked), draw, 10).id, 27);
    }
  }
}

// Chi-square over the softmax; the seeds are fixed, so this cannot flicker.
TEST(SampleArgmax, DrawsByTheSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f, -3.0f, 1.5f, -kInf, 0.0f};
  constexpr int kDraws = 40000;
  for (float inverse_temperature : {1.0f, 0.5f, 2.0f}) {
    std::vector<int> counts(logits.size());
    std::vector<Draw> draws;
    for (uint32_t i = 0; i < kDraws; ++i)
      draws.push_back({inverse_temperature, 2024 + i % 7, i % 3, i});
    std::vector<Scored> best(draws.size());
    Array rows(DType::kF32, {kDraws, static_cast<int64_t>(logits.size())});
    for (int64_t i = 0; i < rows.size(); ++i)
      rows.set(i, logits[static_cast<size_t>(i) % logits.size()]);
    PlainOps().SampleArgmax(best, rows, draws, 100);
    for (const Scored& s : best) ++counts[static_cast<size_t>(s.id - 100)];
    double sum = 0, chi = 0;
    for (float l : logits) sum += std::exp(l * inverse_temperature);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double expected = std::exp(logits[i] * inverse_temperature) / sum * kDraws;
      if (expected == 0) {
        EXPECT_EQ(counts[i], 0);
      } else {
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
      }
    }
    EXPECT_LT(chi, 24.3) << "7 degrees of freedom: 24.3 is the 99.9% point";
  }
}

TEST(TopLogits, AgreesWithASort) {
  for (int64_t v : {1, 15, 16, 1000, 4097, 20000}) {
    Array logits = Random(DType::kF32, {v}, static_cast<uint32_t>(v));
    for (int64_t i = 0; i < v; i += 3) logits.set(i, std::round(logits.at(i)));  // ties
    if (v > 100) logits.set(50, kNaN), logits.set(51, -kInf), logits.set(52, kInf);
    std::vector<Scored> sorted;
    for (int64_t i = 0; i < v; ++i) {
      sorted.push_back(
          {std::isnan(logits.at(i)) ? -kInf : logits.at(i), static_cast<int32_t>(i + 5)});
    }
    std::sort(sorted.begin(), sorted.end(), [](const Scored& a, const Scored& b) {
      return a.score != b.score ? a.score > b.score : a.id < b.id;
    });
    for (int64_t m : {int64_t{0}, int64_t{1}, int64_t{7}, v / 2, v, v + 3}) {
      for (NamedOps& ops : AllOps()) {
        std::vector<Scored> top(static_cast<size_t>(m));
        ops.ops->TopLogits(top, logits, 5);
        for (int64_t i = 0; i < m; ++i) {
          const auto at = static_cast<size_t>(i);
          ASSERT_EQ(top[at].id, i < v ? sorted[at].id : -1) << v << " " << m << " " << i;
          ASSERT_EQ(top[at].score, i < v ? sorted[at].score : -kInf) << v << " " << m << " " << i;
        }
      }
    }
  }
}

// One id per chunk gives exp itself.
TEST(Ban, TakesOutTheIdsThatAreHere) {
  for (NamedOps& ops : AllOps()) {
    const Array logits = Floats({0, 1, 2, 3});
    ops.ops->Ban(logits, std::vector<int32_t>{9, 11, 13, 14, 11}, 10);
    EXPECT_EQ(logits.at(0), 0);
    EXPECT_EQ(logits.at(1), -kInf);
    EXPECT_EQ(logits.at(2), 2);
    EXPECT_EQ(logits.at(3), -kInf);
  }
}

TEST(MaskAfter, KeepsThePrefixByLogitAndId) {
  for (NamedOps& ops : AllOps()) {
    const Array logits = Floats({1, 5, 3, 3, 3, kNaN, 2, kInf});
    ops.ops->MaskAfter(logits, {3, 103}, 100);
    for (const int64_t i : {1, 2, 3, 7}) EXPECT_GE(logits.at(i), 3) << i;
    for (const int64_t i : {0, 4, 5, 6}) EXPECT_EQ(logits.at(i), -kInf) << i;
  }
}

TEST(ExpSums, ExpAgreesWithFloat64) {
  std::vector<float> xs = {0,    1,      -1,     -87.336f, -87.337f, -88,
                           -104, -1e30f, 88.72f, 88.73f,   kInf,     -kInf};
  for (float x = -87.3f; x < 88.7f; x += 0.0037f) xs.push_back(x);
  for (float x = -1; x < 1; x += 0.00013f) xs.push_back(x);
  std::vector<int64_t> bounds(xs.size() + 1);
  for (size_t i = 0; i < bounds.size(); ++i) bounds[i] = static_cast<int64_t>(i);
  std::vector<float> sums(xs.size());
  PlainOps().ExpSums(sums, Floats(xs), bounds, 0, 1);
  double worst = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    const double exact = std::exp(static_cast<double>(xs[i]));
    if (exact > std::numeric_limits<float>::max()) {
      EXPECT_EQ(sums[i], kInf) << xs[i];
    } else if (exact < std::numeric_limits<float>::min()) {
      EXPECT_EQ(sums[i], 0) << xs[i];
    } else {
      worst = std::max(worst, Ulps(sums[i], exact));
    }
  }
  EXPECT_LT(worst, 1.1);
}

TEST(ExpSums, ChunkByChunk) {
  Array logits = Random(DType::kF32, {1000}, 3, 4);
  logits.set(600, kNaN);
  logits.set(601, -kInf);
  const std::vector<int64_t> bounds = {0, 0, 1, 17, 500, 777, 1000};
  std::vector<float> expected(6);
  PlainOps().ExpSums(expected, logits, bounds, 2, 0.7f);
  for (size_t c = 0; c < 6; ++c) {
    double sum = 0;
    for (int64_t i = bounds[c]; i < bounds[c + 1]; ++i) {
      if (!std::isnan(logits.at(i))) sum += std::exp((logits.at(i) - 2.0) * 0.7f);
    }
    EXPECT_NEAR(expected[c], sum, sum * 2e-6);
  }
  for (NamedOps& ops : AllOps()) {
    std::vector<float> sums(6), alone(1);
    ops.ops->ExpSums(sums, logits, bounds, 2, 0.7f);
    EXPECT_EQ(sums, expected) << ops.name;
    const Array chunk = Floats(std::vector<float>(logits->f32() + 17, logits->f32() + 500));
    ops.ops->ExpSums(alone, chunk, std::vector<int64_t>{0, 483}, 2, 0.7f);
    EXPECT_EQ(alone[0], expected[3]) << ops.name;
  }
}

}  // namespace
}  // namespace trireme
