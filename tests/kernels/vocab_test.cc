// The seeded draw, where filters cut, and what they leave.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/philox.h"
#include "tests/kernels/ops_test_util.h"

namespace trireme {
namespace {

const float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

Scored SampleOne(Ops& ops, const Tensor& logits, const Draw& draw, int64_t first_id = 0,
                 Scored last = {}) {
  Scored best;
  ops.DrawBest(ScoredTensor(&best, 1), logits.As({1, logits.size()}), {&draw, 1},
               ScoredTensor(&last, 1), first_id);
  return best;
}

Scored CutoffOf(Ops& ops, const Tensor& logits, const Filter& filter, int32_t first_id = 0) {
  Scored last = {7, 7};
  const int64_t v = logits.size();
  ops.FindCutoffs(ScoredTensor(&last, 1), logits.As({1, 1, v}),
                  std::vector<int64_t>{first_id, first_id + v}, {&filter, 1});
  return last;
}

std::vector<Scored> Sorted(const Array& logits, int32_t first_id) {
  std::vector<Scored> sorted;
  for (int64_t i = 0; i < logits.size(); ++i) {
    sorted.push_back(
        {std::isnan(logits.at(i)) ? -kInf : logits.at(i), static_cast<int32_t>(first_id + i)});
  }
  std::sort(sorted.begin(), sorted.end(), [](const Scored& a, const Scored& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  });
  return sorted;
}

double ExactGumbel(const Draw& draw, uint32_t id) {
  const uint32_t r =
      Philox(draw.seed, {id / 4, draw.token_index, draw.choice, kDrawPurpose})[id % 4];
  const double u = (r + 0.5) * 0x1p-32;
  return -std::log(-std::log1p(-u));
}

// A single logit of 0 scores the noise itself.
TEST(DrawBest, NoiseAgreesWithFloat64) {
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

TEST(DrawBest, AgreesBetweenBackendsAndCutsOfTheVocabulary) {
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
TEST(DrawBest, IsTheBestOfItsIds) {
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

TEST(DrawBest, IsTheArgmaxOfTheFormula) {
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

TEST(DrawBest, GreedyTiesNaNAndInfinity) {
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
TEST(DrawBest, DrawsByTheSoftmax) {
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
    PlainOps().DrawBest(ScoredTensor(best.data(), kDraws), rows, draws, Tensor(), 100);
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

TEST(DrawBest, PassesOverWhatComesAfterTheLast) {
  const Array logits = Floats({1, 5, 3, 3, 3, kNaN, 2, kInf});
  Array masked = Copy(logits);
  for (const int64_t i : {0, 4, 5, 6}) masked.set(i, -kInf);
  for (uint32_t i = 0; i < 200; ++i) {
    const Draw draw = {0.01f, i, 0, i};
    for (NamedOps& ops : AllOps()) {
      const Scored best = SampleOne(*ops.ops, logits->Rows(0, 7), draw, 100, {3, 103});
      const Scored expected = SampleOne(*ops.ops, masked->Rows(0, 7), draw, 100);
      ASSERT_EQ(best.id, expected.id) << ops.name;
      ASSERT_EQ(best.score, expected.score) << ops.name;
    }
  }
}

TEST(EditLogits, ChangesTheIdsThatAreHere) {
  for (NamedOps& ops : AllOps()) {
    const Array logits = Floats({0, 1, 2, 3, 4, 5, 6, -7});
    ops.ops->EditLogits(logits->As({2, 4}),
                        std::vector<LogitEdit>{{.row = 0, .id = 9, .bias = 1},
                                               {.row = 0, .id = 11, .bias = -kInf},
                                               {.row = 0, .id = 13, .repetition = 2},
                                               {.row = 0, .id = 14, .bias = 1},
                                               {.row = 1, .id = 10, .penalty = 1.5f},
                                               {.row = 1, .id = 11, .bias = -6, .repetition = 4},
                                               {.row = 1, .id = 12, .bias = 4, .repetition = 2},
                                               {.row = 1, .id = 13, .repetition = 2, .penalty = 1}},
                        10);
    EXPECT_TRUE(SameBits(logits, Floats({0, -kInf, 2, 1.5f, 2.5f, -4, 5, -15})));
  }
}

// exp(logit - 0) where the largest is 0: masses against float64.
TEST(FindCutoffs, MassesAgreeWithFloat64) {
  for (float share = 0.02f; share < 0.99f; share += 0.0137f) {
    Array logits = Random(DType::kF32, {3000}, 8, 3);
    logits.set(17, kNaN);
    logits.set(18, -kInf);
    for (const float inverse : {0.5f, 1.0f, 1.7f}) {
      const std::vector<Scored> sorted = Sorted(logits, 0);
      double total = 0, sum = 0;
      const auto mass = [&](const Scored& s) {
        return std::exp((double{s.score} - double{sorted[0].score}) * inverse);
      };
      for (const Scored& s : sorted) total += mass(s);
      size_t n = 0;
      while (sum < share * total) sum += mass(sorted[n++]);
      if (std::fabs(sum / total - share) < 1e-5 ||
          std::fabs((sum - mass(sorted[n - 1])) / total - share) < 1e-5) {
        continue;  // float32 may round otherwise
      }
      const Filter filter = {.top_p = share, .inverse_temperature = inverse};
      EXPECT_EQ(CutoffOf(PlainOps(), logits, filter).id, sorted[n - 1].id) << share;
    }
  }
}

TEST(FindCutoffs, CountsLikeASort) {
  for (int64_t v : {1, 15, 16, 1000, 4097, 20000}) {
    Array logits = Random(DType::kF32, {v}, static_cast<uint32_t>(v));
    for (int64_t i = 0; i < v; i += 3) logits.set(i, std::round(logits.at(i)));  // ties
    if (v > 100) logits.set(50, kNaN), logits.set(51, -kInf), logits.set(52, kInf);
    const std::vector<Scored> sorted = Sorted(logits, 5);
    for (int64_t k : {int64_t{1}, int64_t{7}, v / 2, v - 1, v, v + 3}) {
      if (k == 0) continue;
      for (NamedOps& ops : AllOps()) {
        const Filter filter = {.top_k = static_cast<int32_t>(k)};
        const Scored last = CutoffOf(*ops.ops, logits, filter, 5);
        if (k >= v) {
          EXPECT_EQ(last.id, -1);
          continue;
        }
        EXPECT_EQ(last.id, sorted[static_cast<size_t>(k - 1)].id) << v << " " << k;
        EXPECT_EQ(last.score, sorted[static_cast<size_t>(k - 1)].score) << v << " " << k;
      }
    }
  }
}

TEST(FindCutoffs, FiltersTogetherAndAtTheirEdges) {
  for (NamedOps& ops : AllOps()) {
    const auto cut = [&](std::vector<float> logits, const Filter& filter) {
      return CutoffOf(*ops.ops, Floats(logits), filter).id;
    };
    const float third = std::log(1.0f / 3);
    // p: 3/8, 2 times 2/8, 1/8
    const std::vector<float> row = {std::log(2.0f / 3), 0, third, std::log(2.0f / 3), -kInf};
    EXPECT_EQ(cut(row, {}), -1) << ops.name;
    EXPECT_EQ(cut(row, {.top_p = 0.3f}), 1);
    EXPECT_EQ(cut(row, {.top_p = 0.4f}), 0);
    EXPECT_EQ(cut(row, {.top_p = 0.7f}), 3);
    EXPECT_EQ(cut(row, {.top_p = 0.99f}), 2);
    EXPECT_EQ(cut(row, {.top_p = 1e-9f}), 1);
    EXPECT_EQ(cut(row, {.min_p = 0.5f}), 3);
    EXPECT_EQ(cut(row, {.min_p = 1}), 1);
    EXPECT_EQ(cut(row, {.top_k = 2, .min_p = 0.5f}), 0);
    EXPECT_EQ(cut(row, {.top_k = 3, .top_p = 0.5f}), 0);     // of 7/8
    EXPECT_EQ(cut(row, {.top_p = 0.3f, .min_p = 0.5f}), 1);  // of 7/8
    EXPECT_EQ(cut({kNaN, kNaN}, {.top_p = 0.5f}), -1);
    EXPECT_EQ(cut({-kInf, -kInf}, {.top_k = 1}), -1);
    EXPECT_EQ(cut({0, kInf, 1, kInf}, {.top_p = 0.5f}), 1);
    EXPECT_EQ(cut({0, kInf, 1, kInf}, {.top_p = 0.51f}), 3);
    EXPECT_EQ(cut(std::vector<float>(1000, 2.0f), {.top_p = 0.5f}), 499);
    EXPECT_EQ(cut(std::vector<float>(1000, 2.0f), {.top_k = 700}), 699);
  }
}

// Rows, backends and ways to cut the vocabulary: always the same.
TEST(FindCutoffs, AgreesBetweenBackendsAndCutsOfTheVocabulary) {
  const int64_t v = 5003, rows = 4;
  const Array logits = Random(DType::kF32, {rows, v}, 4, 3);
  std::vector<Filter> filters;
  for (int32_t i = 0; i < rows; ++i) {
    filters.push_back({.row = static_cast<int32_t>(rows) - 1 - i,
                       .top_k = i == 1 ? 900 : 0,
                       .top_p = i == 2 ? 1 : 0.9f,
                       .min_p = i == 2 ? 0.01f : 0,
                       .inverse_temperature = 0.5f + static_cast<float>(i)});
  }
  std::vector<Scored> expected(rows);
  for (int32_t i = 0; i < rows; ++i) {
    Filter alone = filters[static_cast<size_t>(i)];
    alone.row = 0;
    expected[static_cast<size_t>(rows - 1 - i)] =
        CutoffOf(PlainOps(), logits->Rows(i, i + 1).As({v}), alone, 9);
  }
  for (const std::vector<int64_t>& cuts :
       {std::vector<int64_t>{0, v}, {0, 0, 1, 2600, v}, {0, 1700, 3400, v}}) {
    int64_t width = 0;
    std::vector<int64_t> firsts = {9};
    for (size_t s = 1; s < cuts.size(); ++s) {
      width = std::max(width, cuts[s] - cuts[s - 1] + 2);
      firsts.push_back(9 + cuts[s]);
    }
    const auto n_shards = static_cast<int64_t>(cuts.size()) - 1;
    Array shards(DType::kF32, {n_shards, rows, width});
    for (int64_t i = 0; i < shards.size(); ++i) shards.set(i, 99);  // past the ends
    for (int64_t s = 0; s < n_shards; ++s) {
      const int64_t begin = cuts[static_cast<size_t>(s)], end = cuts[static_cast<size_t>(s) + 1];
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = begin; i < end; ++i) {
          shards.set((s * rows + r) * width + i - begin, logits.at(r * v + i));
        }
      }
    }
    for (NamedOps& ops : AllOps()) {
      std::vector<Scored> lasts(rows);
      ops.ops->FindCutoffs(ScoredTensor(lasts.data(), rows), shards, firsts, filters);
      for (size_t i = 0; i < lasts.size(); ++i) {
        EXPECT_EQ(lasts[i].id, expected[i].id) << ops.name << " " << n_shards << " " << i;
        EXPECT_EQ(lasts[i].score, expected[i].score) << ops.name;
      }
    }
  }
}

struct Wanted {
  int32_t id;  // -1: the one drawn, 3
  int32_t n_top;
};
std::vector<Scored> LogprobsOf(Ops& ops, const Tensor& logits, const Wanted& wanted,
                               int32_t first_id = 0) {
  std::vector<Scored> logprobs(kLogprobs, {7, 7});
  const int64_t v = logits.size();
  const LogprobRow row = {.row = 1, .id = wanted.id, .n_top = wanted.n_top};
  ops.Logprobs(ScoredTensor(logprobs.data(), kLogprobs).As({1, kLogprobs, 2}), logits.As({1, 1, v}),
               std::vector<int64_t>{first_id, first_id + v}, Ints({-9, 3}), {&row, 1});
  return logprobs;
}

TEST(Logprobs, AgreeWithFloat64) {
  for (const float scale : {0.01f, 1.0f, 6.0f}) {
    for (const int64_t v : {1, 17, 1000, 130000}) {
      const Array logits = Random(DType::kF32, {v}, static_cast<uint32_t>(v), scale);
      const std::vector<Scored> sorted = Sorted(logits, 5);
      double sum = 0;
      for (const Scored& s : sorted) sum += std::exp(double{s.score} - double{sorted[0].score});
      const auto exact = [&](float logit) {
        return double{logit} - double{sorted[0].score} - std::log(sum);
      };
      const auto id = static_cast<int32_t>(v / 3);
      for (NamedOps& ops : AllOps()) {
        const std::vector<Scored> found = LogprobsOf(*ops.ops, logits, {5 + id, 20}, 5);
        const auto error = [](double found, double expected) {
          return std::fabs(found - expected) / (0x1p-24 * std::max(1.0, std::fabs(expected)));
        };
        EXPECT_EQ(found[0].id, 5 + id);
        EXPECT_LT(error(found[0].score, exact(logits.at(id))), 4) << ops.name << " v " << v;
        for (size_t i = 0; i < 20; ++i) {
          const bool there = i < sorted.size();
          EXPECT_EQ(found[1 + i].id, there ? sorted[i].id : -1) << ops.name;
          if (!there) continue;
          EXPECT_LT(error(found[1 + i].score, exact(sorted[i].score)), 4) << ops.name << " v " << v;
        }
      }
    }
  }
}

TEST(Logprobs, OfWhatWasDrawnAndOfNothingMore) {
  for (NamedOps& ops : AllOps()) {
    const std::vector<Scored> found =
        LogprobsOf(*ops.ops, Floats({0, kNaN, 0, -kInf, 0, 0}), {-1, 1});
    EXPECT_EQ(found[0].id, 3);
    EXPECT_EQ(found[0].score, -kInf);
    EXPECT_EQ(found[1].id, 0);
    EXPECT_EQ(found[1].score, std::log(0.25f));
    for (size_t i = 2; i < found.size(); ++i) EXPECT_EQ(found[i].id, -1);
    const std::vector<Scored> none = LogprobsOf(*ops.ops, Floats({-kInf, kNaN}), {1, 2});
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(none[i].score, -kInf);
    EXPECT_EQ(LogprobsOf(*ops.ops, Floats({1, kInf, 2}), {1, 0})[0].score, 0);
  }
}

TEST(PickWinners, TakesTheBestOfAllShards) {
  std::vector<Scored> best = {{1, 5}, {2, 6}, {-kInf, -1}, {-kInf, 3},    // of shard 0
                              {1, 9}, {3, 8}, {-5, 11},    {-kInf, -1}};  // of shard 1
  std::vector<int32_t> ids(4);
  PlainOps().PickWinners(Tensor(ids.data(), DType::kI32, {4}),
                         Tensor(best.data(), DType::kI32, {2, 4, 2}));
  EXPECT_EQ(ids, (std::vector<int32_t>{5, 8, 11, 3}));
}

TEST(Feed, PutsInWhatWasDrawn) {
  const Array ids = Ints({4, ~1, 0, ~0, ~2});
  PlainOps().Feed(ids, Ints({70, 71, 72}));
  EXPECT_TRUE(SameBits(ids, Ints({4, 71, 0, 70, 72})));
}

TEST(GatherRows, LeavesWhatIsPastARow) {
  const Array y = Floats({9, 9, 9, 9, 9, 9});
  PlainOps().GatherRows(y->As({2, 3}), Floats({1, 2, 3, 4, 5, 6})->As({3, 2}), Ints({2, 0}));
  EXPECT_TRUE(SameBits(y, Floats({5, 6, 9, 1, 2, 9})));
}

}  // namespace
}  // namespace trireme
