// RopeStoreKv and Attention against float64, and a prefill in any chunks against token by token,
// with windows and without.
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "tests/kernels/ops_test_util.h"

namespace trireme {
namespace {

constexpr int64_t kB = kKvBlockSize;
const float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kNoBlock = std::numeric_limits<int32_t>::max();
// One token, less than a block, a block, no multiple of anything, more than there are, none.
constexpr int64_t kWindows[] = {1, 5, 16, 23, 100, kNoWindow};

struct Case {
  int64_t heads, kv_heads, group, offset, d;
  DType type, kv_type;
};
std::string NameOf(const Case& c) {
  return StrCat("N", c.heads, "_K", c.kv_heads, "_at", c.offset, "_D", c.d, "_", Name(c.type),
                "_kv_", Name(c.kv_type));
}
constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kF16 = DType::kF16;
constexpr Case kCases[] = {
    {8, 1, 8, 0, 64, kF32, kF32},    {4, 2, 2, 0, 8, kBF16, kBF16}, {5, 3, 2, 1, 16, kF32, kBF16},
    {6, 6, 1, 0, 10, kBF16, kF32},   {3, 1, 3, 0, 80, kF32, kF32},  {20, 1, 20, 0, 18, kF32, kBF16},
    {7, 2, 8, 3, 128, kBF16, kBF16}, {2, 1, 2, 0, 256, kF32, kF32}, {4, 2, 2, 0, 8, kF16, kF16},
    {7, 2, 8, 3, 20, kF16, kF16},    {3, 1, 3, 0, 80, kF16, kF32},
};

// One sequence whose blocks lie scattered in the pages; slots that no token has hold NaN.
struct Sequence {
  Sequence(const Case& c, int64_t n_tokens, uint32_t seed)
      : c(c),
        n(n_tokens),
        qkv(Random(c.type, {n_tokens, (c.heads + 2 * c.kv_heads) * c.d}, seed)),
        cos(kF32, {n_tokens, c.d / 2}),
        sin(kF32, {n_tokens, c.d / 2}) {
    const int64_t n_blocks = (n + kB - 1) / kB;
    for (int64_t b = 0; b < n_blocks; ++b)
      table.push_back(static_cast<int32_t>((b * 7 + 3) % 11 + 11 * (b / 11)));
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t i = 0; i < c.d / 2; ++i) {
        const double angle = static_cast<double>(t) * std::pow(10000.0, -2.0 * i / c.d);
        cos.set(t * c.d / 2 + i, static_cast<float>(std::cos(angle)));
        sin.set(t * c.d / 2 + i, static_cast<float>(std::sin(angle)));
      }
    }
  }
  int32_t Slot(int64_t t) const {
    return table[t / kB] * static_cast<int32_t>(kB) + static_cast<int32_t>(t % kB);
  }
  HeadMap heads() const { return {c.heads, c.kv_heads, c.group, c.offset}; }

  const Case c;
  const int64_t n;
  Array qkv, cos, sin;
  std::vector<int32_t> table;
};
struct Pages {
  explicit Pages(const Case& c, int64_t n_blocks = 33)
      : k(c.kv_type, {n_blocks, c.kv_heads, c.d, kB}),
        v(c.kv_type, {n_blocks, c.kv_heads, kB, c.d}) {
    for (int64_t i = 0; i < k.size(); ++i) k.set(i, kNaN);
    for (int64_t i = 0; i < v.size(); ++i) v.set(i, kNaN);
  }
  KvLayer layer() const { return {k, v}; }
  // Keys and values of the token in `slot` are NaN again.
  void Forget(const Case& c, int64_t slot) const {
    Array keys = k, values = v;
    for (int64_t h = 0; h < c.kv_heads; ++h) {
      const int64_t page = (slot / kB * c.kv_heads + h) * kB * c.d;
      for (int64_t i = 0; i < c.d; ++i) {
        keys.set(page + i * kB + slot % kB, kNaN);
        values.set(page + slot % kB * c.d + i, kNaN);
      }
    }
  }
  Array k, v;
};

// Tokens [begin, end) of the sequence as one step. What lies before the window of all is NaN, and
// no block where that is a whole one.
void Step(Ops& ops, const Sequence& s, const Pages& pages, int64_t begin, int64_t end, Tensor y,
          int64_t window = kNoWindow) {
  std::vector<int32_t> slots;
  for (int64_t t = begin; t < end; ++t) slots.push_back(s.Slot(t));
  const Array q(s.c.type, {end - begin, s.c.heads * s.c.d});
  ops.RopeStoreKv(q, pages.layer(), s.qkv->Rows(begin, end), s.cos->Rows(begin, end),
                  s.sin->Rows(begin, end), Ints(slots), s.heads());
  const Array starts = Ints({0, static_cast<int32_t>(end - begin)}),
              lens = Ints({static_cast<int32_t>(end)});
  const Array table = Ints(s.table);
  for (int64_t t = 0; t < begin + 1 - window; ++t) {
    pages.Forget(s.c, s.Slot(t));
    if (t % kB == kB - 1) table->i32()[t / kB] = kNoBlock;
  }
  ops.Attention(y, q, pages.layer(),
                {.q_starts = starts,
                 .kv_lens = lens,
                 .block_table = table->As({1, static_cast<int64_t>(s.table.size())}),
                 .window = window},
                1.0f / std::sqrt(static_cast<float>(s.c.d)), s.heads());
}
Array Whole(Ops& ops, const Sequence& s, int64_t window = kNoWindow) {
  const Pages pages(s.c);
  const Array y(s.c.type, {s.n, s.c.heads * s.c.d});
  Step(ops, s, pages, 0, s.n, y, window);
  return y;
}

class AttentionTest : public testing::TestWithParam<Case> {};

// Attention over the queries and keys of the formula, all in float64.
TEST_P(AttentionTest, AgreesWithFloat64) {
  const Case c = GetParam();
  const Sequence s(c, 53, 1);
  const int64_t row = (c.heads + 2 * c.kv_heads) * c.d, half = c.d / 2;
  const auto rotated = [&](int64_t t, int64_t head, int64_t i) {
    const int64_t at = t * row + head * c.d;
    const double a = s.qkv.at(at + i % half), b = s.qkv.at(at + half + i % half);
    const double cos = s.cos.at(t * half + i % half), sin = s.sin.at(t * half + i % half);
    return i < half ? a * cos - b * sin : b * cos + a * sin;
  };
  const double unit = c.type == kF32 && c.kv_type == kF32 ? 1e-5 : 3e-2;
  std::map<int64_t, Array> results;
  for (const int64_t window : kWindows) results.emplace(window, Whole(PlainOps(), s, window));
  for (int64_t t : {int64_t{0}, int64_t{1}, int64_t{15}, int64_t{16}, s.n - 1}) {
    for (int64_t h = 0; h < c.heads; ++h) {
      const int64_t kv_head = (c.offset + h) / c.group;
      std::vector<double> weights;
      for (int64_t j = 0; j <= t; ++j) {
        double dot = 0;
        for (int64_t i = 0; i < c.d; ++i)
          dot += rotated(t, h, i) * rotated(j, c.heads + kv_head, i);
        weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(c.d))));
      }
      for (const auto& [window, y] : results) {
        const int64_t first = std::max<int64_t>(0, t - window + 1);
        const double sum = std::accumulate(weights.begin() + first, weights.end(), 0.0);
        for (int64_t i = 0; i < c.d; ++i) {
          double expected = 0;
          for (int64_t j = first; j <= t; ++j) {
            expected +=
                weights[j] / sum * s.qkv.at(j * row + (c.heads + c.kv_heads + kv_head) * c.d + i);
          }
          ASSERT_NEAR(y.at((t * c.heads + h) * c.d + i), expected, unit)
              << t << " " << h << " " << i << " window " << window;
        }
      }
    }
  }
}

TEST_P(AttentionTest, AnyChunksGiveTheSameBits) {
  const Sequence s(GetParam(), 85, 2);
  for (const int64_t window : kWindows) {
    const Array expected = Whole(PlainOps(), s, window);
    for (NamedOps& ops : AllOps()) {
      EXPECT_TRUE(SameBits(Whole(*ops.ops, s, window), expected)) << ops.name << " whole";
      for (int64_t chunk : {1, 7, 16, 40}) {
        const Pages pages(s.c);
        for (int64_t begin = 0; begin < s.n; begin += chunk) {
          const int64_t end = std::min(s.n, begin + chunk);
          const Array y(s.c.type, {end - begin, s.c.heads * s.c.d});
          Step(*ops.ops, s, pages, begin, end, y, window);
          ASSERT_TRUE(SameBits(y, expected->Rows(begin, end)))
              << ops.name << " window " << window << " chunk " << chunk << " at " << begin;
        }
      }
    }
  }
}

TEST(Attention, AWindowOfTheWholeContextIsNone) {
  const Sequence s({4, 2, 2, 0, 16, kF32, kF32}, 53, 7);
  EXPECT_TRUE(SameBits(Whole(PlainOps(), s, 53), Whole(PlainOps(), s)));
  EXPECT_FALSE(SameBits(Whole(PlainOps(), s, 52), Whole(PlainOps(), s)));
}

// The keys and values of token 20 are seen by as many rows as the window has tokens.
TEST(Attention, NaNStaysInTheWindowsThatHaveIt) {
  const Case c = {4, 1, 4, 0, 16, kF32, kF32};
  Sequence s(c, 60, 8);
  for (const int64_t window : kWindows) {
    const Array clean = Whole(PlainOps(), s, window);
    Sequence poisoned = s;
    poisoned.qkv = Copy(s.qkv);
    poisoned.qkv.set(20 * 6 * 16 + 4 * 16, kNaN);
    poisoned.qkv.set(20 * 6 * 16 + 5 * 16, kNaN);
    for (NamedOps& ops : AllOps()) {
      const Array y = Whole(*ops.ops, poisoned, window);
      for (int64_t i = 0; i < y.size(); ++i) {
        const int64_t row = i / 64;
        if (row >= 20 && row < 20 + window) {
          ASSERT_TRUE(i % 16 != 0 || std::isnan(y.at(i))) << ops.name << " row " << row;
        } else {
          ASSERT_EQ(y.at(i), clean.at(i)) << ops.name << " window " << window << " row " << row;
        }
      }
    }
  }
}

// Several sequences in one step: a decode, a prefill, an empty one, and padding rows at the end.
TEST_P(AttentionTest, BatchedAsAlone) {
  const Case c = GetParam();
  const Sequence a(c, 40, 3), b(c, 21, 4);
  const Array expected_a = Whole(PlainOps(), a), expected_b = Whole(PlainOps(), b);
  const int64_t width = (c.heads + 2 * c.kv_heads) * c.d, out = c.heads * c.d;
  for (NamedOps& ops : AllOps()) {
    const Pages pages(c);
    const Array ignored(c.type, {39, out});
    Step(*ops.ops, a, pages, 0, 39, ignored);
    // rows: a's token 39, all of b (in blocks that a does not use), then two of padding
    const int64_t rows = 1 + 21 + 2;
    Array qkv(c.type, {rows, width}), cos(kF32, {rows, c.d / 2}), sin(kF32, {rows, c.d / 2});
    std::vector<int32_t> slots(rows, -1);
    for (int64_t r = 0; r < rows - 2; ++r) {
      const Sequence& s = r == 0 ? a : b;
      const int64_t t = r == 0 ? 39 : r - 1;
      slots[r] = s.Slot(t) + (r == 0 ? 0 : 15 * static_cast<int32_t>(kB));
      for (int64_t i = 0; i < width; ++i) qkv.set(r * width + i, s.qkv.at(t * width + i));
      for (int64_t i = 0; i < c.d / 2; ++i) {
        cos.set(r * c.d / 2 + i, s.cos.at(t * c.d / 2 + i));
        sin.set(r * c.d / 2 + i, s.sin.at(t * c.d / 2 + i));
      }
    }
    const Array q(c.type, {rows, out});
    Array y(c.type, {rows, out});
    for (int64_t i = 0; i < y.size(); ++i) y.set(i, 7);
    ops.ops->RopeStoreKv(q, pages.layer(), qkv, cos, sin, Ints(slots), a.heads());
    Array table(DType::kI32, {3, 4});
    for (int64_t i = 0; i < 3; ++i) table->i32()[i] = a.table[i];
    for (int64_t i = 0; i < 2; ++i) table->i32()[8 + i] = b.table[i] + 15;
    ops.ops->Attention(y, q, pages.layer(), {Ints({0, 1, 1, 22}), Ints({40, 5, 21}), table},
                       1.0f / std::sqrt(static_cast<float>(c.d)), a.heads());
    EXPECT_TRUE(SameBits(y->Rows(0, 1), expected_a->Rows(39, 40))) << ops.name;
    EXPECT_TRUE(SameBits(y->Rows(1, 22), expected_b)) << ops.name;
    EXPECT_EQ(y.at(22 * out), 7) << "padding rows are left alone";
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return NameOf(info.param); });

TEST(Attention, NaNStaysInItsRow) {
  const Case c = {4, 1, 4, 0, 16, kF32, kF32};
  Sequence s(c, 40, 5);
  const Array clean = Whole(PlainOps(), s);
  s.qkv.set(20 * 6 * 16 + 16, kNaN);  // token 20, head 1
  for (NamedOps& ops : AllOps()) {
    const Array y = Whole(*ops.ops, s);
    for (int64_t i = 0; i < y.size(); ++i) {
      const bool poisoned = i / 64 == 20 && i / 16 % 4 == 1;
      ASSERT_TRUE(poisoned ? std::isnan(y.at(i)) : y.at(i) == clean.at(i)) << ops.name << " " << i;
    }
  }
}

TEST(Attention, ScoresOfMinusInfinityGiveNoWeight) {
  // the first block's keys score -inf: its tokens weigh nothing, later ones decide
  const Case c = {1, 1, 1, 0, 2, kF32, kF32};
  const Pages pages(c, 2);
  Array q(kF32, {1, 2}), y(kF32, {1, 2});
  q.set(0, 1);
  for (int64_t j = 0; j < 17; ++j) {
    Array k = pages.k, v = pages.v;
    k.set(j / 16 * 32 + j % 16, j < 16 ? -HUGE_VALF : 1.0f);
    k.set(j / 16 * 32 + 16 + j % 16, 0);
    v.set(j * 2, static_cast<float>(j));
    v.set(j * 2 + 1, 1);
  }
  for (NamedOps& ops : AllOps()) {
    const Array table = Ints({0, 1});
    ops.ops->Attention(y, q, pages.layer(), {Ints({0, 1}), Ints({17}), table->As({1, 2})}, 1,
                       {1, 1, 1, 0});
    EXPECT_EQ(y.at(0), 16) << ops.name;
    EXPECT_EQ(y.at(1), 1) << ops.name;
  }
}

TEST(RopeStoreKv, WritesThePagesAndNothingElse) {
  const Case c = {3, 2, 2, 0, 6, kBF16, kBF16};
  for (NamedOps& ops : AllOps()) {
    const Pages pages(c, 3);
    const Sequence s(c, 2, 6);
    const Array q(kBF16, {2, 18});
    ops.ops->RopeStoreKv(q, pages.layer(), s.qkv, s.cos, s.sin, Ints({-1, 2 * 16 + 5}), s.heads());
    int64_t written = 0;
    for (int64_t i = 0; i < pages.k.size(); ++i) written += !std::isnan(pages.k.at(i));
    EXPECT_EQ(written, 2 * 6) << ops.name;
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t d = 0; d < 6; ++d) {
        EXPECT_EQ(pages.v.at(((2 * 2 + h) * 16 + 5) * 6 + d), s.qkv.at(42 + (3 + 2 + h) * 6 + d));
      }
    }
  }
}

TEST(Attention, NoTokens) {
  const Case c = {2, 1, 2, 0, 8, kF32, kF32};
  const Pages pages(c, 1);
  const Array none(kF32, {0, 16});
  PlainOps().Attention(none, none, pages.layer(), {Ints({0}), Ints({}), Array(DType::kI32, {0, 1})},
                       1, {2, 1, 2, 0});
  PlainOps().RopeStoreKv(none, pages.layer(), Array(kF32, {0, 32}), Array(kF32, {0, 4}),
                         Array(kF32, {0, 4}), Ints({}), {2, 1, 2, 0});
}

}  // namespace
}  // namespace trireme
