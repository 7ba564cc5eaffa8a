// RopeStoreKv and Attention on the device against the CPU's.
#include "kernels/cuda/attention.h"

#include <cmath>
#include <limits>

#include "tests/kernels/cuda/device_array.h"

namespace trireme::cuda {
namespace {

constexpr int64_t kB = kKvBlockSize;
constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kF16 = DType::kF16;
const float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kNoBlock = std::numeric_limits<int32_t>::max();

struct Case {
  int64_t heads, kv_heads, group, offset, d;
  DType type, kv_type;
  HeadMap map() const { return {heads, kv_heads, group, offset}; }
};
std::string NameOf(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return StrCat("N", c.heads, "_K", c.kv_heads, "_at", c.offset, "_D", c.d, "_", Name(c.type),
                "_kv_", Name(c.kv_type));
}

void Fill(Array& array, float value) {
  for (int64_t i = 0; i < array.size(); ++i) array.set(i, value);
}

// Pages of the CPU, [n_blocks,K,D,B] for keys, and of the device, [n_blocks,K,B,D].
struct Pages {
  Pages(const Case& c, int64_t n_blocks)
      : c(c),
        k(c.kv_type, {n_blocks, c.kv_heads, c.d, kB}),
        v(c.kv_type, {n_blocks, c.kv_heads, kB, c.d}) {
    Fill(k, kNaN);  // what no token wrote
    Fill(v, kNaN);
  }
  // the device's keys
  Array Transposed() const {
    Array t(c.kv_type, {v->dim(0), c.kv_heads, kB, c.d});
    for (int64_t i = 0; i < t.size(); ++i) t.set(i, k.at(KeyIndex(i)));
    return t;
  }
  // where the CPU has what the device has at i
  int64_t KeyIndex(int64_t i) const {
    const int64_t page = i / (kB * c.d), token = i / c.d % kB, column = i % c.d;
    return (page * c.d + column) * kB + token;
  }

  Case c;
  Array k, v;
};

// ---- RopeStoreKv ----

class RopeTest : public testing::TestWithParam<Case> {};

TEST_P(RopeTest, WritesWhatTheCpuWrites) {
  const Case c = GetParam();
  const std::vector<int32_t> slots = {3 * 16 + 15, -1, 0, 1, 2 * 16 + 7};
  const auto n = static_cast<int64_t>(slots.size());
  const Array qkv = Random(c.type, {n, (c.heads + 2 * c.kv_heads) * c.d}, 1);
  const Array cos = Random(kF32, {n, c.d / 2}, 2), sin = Random(kF32, {n, c.d / 2}, 3);
  Pages pages(c, 4);
  const DeviceArray k = Upload(pages.Transposed()), v = Upload(pages.v),
                    q(c.type, {n, c.heads * c.d});
  RopeStoreKv(q, {k, v}, Upload(qkv), Upload(cos), Upload(sin), Upload(Ints(slots)), c.map(),
              TestStream());
  const Array q_result = Download(q), k_result = Download(k), v_result = Download(v);

  const Array expected(c.type, {n, c.heads * c.d});
  PlainOps().RopeStoreKv(expected, {pages.k, pages.v}, qkv, cos, sin, Ints(slots), c.map());
  EXPECT_TRUE(SameBits(q_result, expected));
  EXPECT_TRUE(SameBits(k_result, pages.Transposed()));
  EXPECT_TRUE(SameBits(v_result, pages.v));
}

constexpr Case kRopeCases[] = {
    {8, 1, 8, 0, 64, kF32, kF32},     {4, 2, 2, 0, 8, kBF16, kBF16},
    {5, 3, 2, 1, 16, kF32, kBF16},    {6, 6, 1, 0, 10, kBF16, kF32},
    {3, 1, 3, 0, 20, kF32, kF32},     {2, 1, 2, 0, 18, kBF16, kBF16},
    {7, 2, 8, 3, 128, kBF16, kBF16},  {2, 1, 2, 0, 256, kF32, kF32},
    {32, 8, 4, 0, 128, kBF16, kBF16}, {4, 2, 2, 0, 8, kF16, kF16},
    {5, 3, 2, 1, 20, kF16, kF32},     {2, 1, 2, 0, 18, kF32, kF16},
};
INSTANTIATE_TEST_SUITE_P(Cases, RopeTest, testing::ValuesIn(kRopeCases), NameOf);

// ---- Attention ----

struct Rows {
  int32_t n, kv_len;
};

// Sequences of a step with random queries, keys and values. What lies in the pages past kv_len and
// before the windows of all rows is NaN, in the block table no block.
struct Step {
  Step(const Case& c, std::vector<Rows> sequences, uint32_t seed, float q_scale = 1,
       int64_t window = kNoWindow)
      : c(c), rows(std::move(sequences)), window(window), pages(c, CountBlocks()) {
    int32_t n_blocks = 0;
    int64_t most = 1;
    for (const Rows& r : rows) {
      starts.push_back(starts.back() + r.n);
      lens.push_back(r.kv_len);
      shape.max_rows = std::max<int64_t>(shape.max_rows, r.n);
      shape.max_kv_len = std::max<int64_t>(shape.max_kv_len, r.kv_len);
      most = std::max<int64_t>(most, (r.kv_len + kB - 1) / kB);
    }
    shape.n_sequences = static_cast<int64_t>(rows.size());
    shape.n_tokens = starts.back();
    q = Random(c.type, {starts.back() + kPadding, c.heads * c.d}, seed, q_scale);
    std::mt19937 random(seed + 1);
    std::normal_distribution<float> normal;
    table.assign(static_cast<size_t>(shape.n_sequences * most), kNoBlock);
    for (size_t s = 0; s < rows.size(); ++s) {
      const int64_t first = std::max<int64_t>(0, rows[s].kv_len - rows[s].n + 1 - window);
      for (int64_t t = first; t < rows[s].kv_len; ++t) {
        int32_t& block = table[s * static_cast<size_t>(most) + static_cast<size_t>(t / kB)];
        if (t == first || t % kB == 0)
          block = (n_blocks++ * 7 + 3) % static_cast<int32_t>(CountBlocks());
        for (int64_t h = 0; h < c.kv_heads; ++h) {
          const int64_t page = (block * c.kv_heads + h) * kB * c.d;
          for (int64_t i = 0; i < c.d; ++i) {
            pages.k.set(page + i * kB + t % kB, normal(random));
            pages.v.set(page + t % kB * c.d + i, normal(random));
          }
        }
      }
    }
    max_blocks = most;
  }
  // not a multiple of 7, so that the blocks above are all different
  int64_t CountBlocks() const {
    int64_t n = 0;
    for (const Rows& r : rows) n += (r.kv_len + kB - 1) / kB;
    return n % 7 == 0 ? n + 1 : n;
  }
  Array BlockTable() const {
    Array array(DType::kI32, {shape.n_sequences, max_blocks});
    std::memcpy(array->raw(), table.data(), table.size() * 4);
    return array;
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(c.d)); }

  Array OnCpu() const {
    Array y(c.type, {q->dim(0), q->dim(1)});
    Fill(y, kUntouched);
    const Array starts_array = Ints(starts), lens_array = Ints(lens), table_array = BlockTable();
    PlainOps().Attention(y, q, {pages.k, pages.v},
                         {.q_starts = starts_array,
                          .kv_lens = lens_array,
                          .block_table = table_array,
                          .window = window},
                         scale(), c.map());
    return y;
  }
  Array OnDevice(AttentionPath path = AttentionPath::kFast) const { return OnDevice(path, shape); }
  Array OnDevice(AttentionPath path, const AttentionShape& bounds) const {
    Array untouched(c.type, {q->dim(0), q->dim(1)});
    Fill(untouched, kUntouched);
    const DeviceArray y = Upload(untouched), q_device = Upload(q), k = Upload(pages.Transposed()),
                      v = Upload(pages.v);
    const DeviceArray starts_device = Upload(Ints(starts)), lens_device = Upload(Ints(lens)),
                      table_device = Upload(BlockTable());
    const DeviceArray workspace(
        kF32, {static_cast<int64_t>(AttentionWorkspaceBytes(bounds, c.map(), c.d) / 4)});
    Attention(y, q_device, {k, v},
              {.q_starts = starts_device,
               .kv_lens = lens_device,
               .block_table = table_device,
               .window = window},
              bounds, scale(), c.map(), workspace->raw(), TestStream(), path);
    return Download(y);
  }

  static constexpr int64_t kPadding = 2;  // rows past the last sequence
  static constexpr float kUntouched = 7;
  Case c;
  std::vector<Rows> rows;
  int64_t window;
  Pages pages;
  std::vector<int32_t> starts = {0}, lens, table;
  int64_t max_blocks = 0;
  AttentionShape shape;
  Array q{kF32, {0}};
};

// |y - expected| beside the rounding of a 16-bit result. float32: a few roundings of sums; 16 bits:
// roundings of the weights, 2^-9 or 2^-12 each, against values of up to 4.5.
double UnitOf(DType type) { return type == kF32 ? 1e-5 : 4.5 * (type == kF16 ? 0x1p-12 : 0x1p-9); }

void ExpectNear(const Array& y, const Array& expected, double unit) {
  const double rounding = y->dtype() == kF32 ? 0 : y->dtype() == kF16 ? 0x1p-11 : 0x1p-8;
  for (int64_t i = 0; i < expected.size(); ++i) {
    const double e = expected.at(i);
    if (std::isnan(e)) {
      ASSERT_TRUE(std::isnan(y.at(i))) << i;
    } else {
      ASSERT_NEAR(y.at(i), e, unit + rounding * std::abs(e)) << i;
    }
  }
}
void ExpectNear(const Array& y, const Array& expected) {
  ExpectNear(y, expected, UnitOf(y->dtype()));
}

class AttentionTest : public testing::TestWithParam<Case> {
 protected:
  static void TearDownTestSuite() { OrderThreads(1); }
};

constexpr Case kCases[] = {
    {8, 1, 8, 0, 8, kBF16, kBF16},    {4, 4, 1, 0, 16, kBF16, kBF16},
    {6, 2, 3, 0, 20, kBF16, kBF16},   {7, 3, 3, 2, 64, kBF16, kBF16},
    {5, 2, 4, 1, 128, kBF16, kBF16},  {3, 1, 4, 0, 256, kBF16, kBF16},
    {20, 1, 20, 0, 18, kBF16, kBF16}, {2, 1, 2, 0, 96, kBF16, kBF16},
    {8, 1, 8, 0, 8, kF32, kF32},      {4, 4, 1, 0, 16, kF32, kF32},
    {7, 3, 3, 2, 20, kF32, kF32},     {5, 2, 4, 1, 64, kF32, kBF16},
    {3, 1, 4, 0, 128, kBF16, kF32},   {2, 1, 8, 5, 256, kF32, kF32},
    {20, 1, 20, 0, 10, kF32, kF32},   {6, 2, 3, 0, 20, kF16, kF16},
    {20, 2, 17, 1, 8, kBF16, kBF16},  {20, 2, 17, 1, 8, kF32, kF32},
    {5, 2, 4, 1, 128, kF16, kF16},    {3, 1, 4, 0, 256, kF16, kF16},
    {4, 4, 1, 0, 16, kF16, kF32},     {7, 3, 3, 2, 64, kF32, kF16},
};
INSTANTIATE_TEST_SUITE_P(Cases, AttentionTest, testing::ValuesIn(kCases), NameOf);

TEST_P(AttentionTest, SingleRowsAtBlockBoundaries) {
  const Step step(GetParam(), {{1, 1}, {1, 15}, {1, 16}, {0, 5}, {1, 17}, {1, 33}, {1, 66}}, 1);
  for (uint64_t seed : {1, 2}) {
    OrderThreads(seed);
    ExpectNear(step.OnDevice(), step.OnCpu());
  }
}

TEST_P(AttentionTest, ManyRows) {
  const Step step(GetParam(), {{3, 3}, {40, 40}, {0, 3}, {2, 64}, {17, 81}}, 2);
  for (uint64_t seed : {3, 4}) {
    OrderThreads(seed);
    ExpectNear(step.OnDevice(), step.OnCpu());
  }
}

TEST_P(AttentionTest, SingleRowsAmongMany) {
  const Step step(GetParam(), {{1, 31}, {2, 18}, {1, 1}, {33, 33}, {1, 260}}, 3);
  ExpectNear(step.OnDevice(), step.OnCpu());
}

// Scores in the thousands: one token has nearly all the weight, and what is subtracted matters.
TEST_P(AttentionTest, LargeScores) {
  const Step step(GetParam(), {{1, 50}, {20, 50}}, 4, 1000);
  ExpectNear(step.OnDevice(), step.OnCpu(), std::max(2e-3, UnitOf(step.c.type)));
}

// Any chunks, single rows, and other sequences beside: the same bits as in one step of n rows.
void ExpectExactRows(const Case& c, int32_t n, const std::vector<Rows>& parts,
                     int64_t window = kNoWindow) {
  const Step whole(c, {{n, n}}, 5, 1, window);
  const Array expected = whole.OnDevice(AttentionPath::kExact);
  ExpectNear(expected, whole.OnCpu());
  for (const Rows part : parts) {
    Step step = whole;  // the middle one of three sequences
    step.rows = {{0, 1}, part, {2, n}};
    step.starts = {0, 0, part.n, part.n + 2};
    step.lens = {1, part.kv_len, n};
    step.table.clear();
    for (const Rows& r : step.rows) {
      step.table.insert(step.table.end(), whole.table.begin(), whole.table.end());
      const int64_t unseen = std::max<int64_t>(0, r.kv_len - r.n + 1 - window) / kB;
      std::fill_n(step.table.end() - whole.max_blocks, unseen, kNoBlock);
    }
    step.shape = {3, part.n + 2, std::max(part.n, 2), n};
    const int64_t width = c.heads * c.d;
    step.q = Array(c.type, {part.n + 2, width});
    const auto from = [&](int64_t row) {
      return row < part.n ? part.kv_len - part.n + row : n - 2 + row - part.n;
    };
    for (int64_t i = 0; i < step.q.size(); ++i)
      step.q.set(i, whole.q.at(from(i / width) * width + i % width));
    const Array y = step.OnDevice(AttentionPath::kExact);
    for (int64_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(y.at(i), expected.at(from(i / width) * width + i % width))
          << part.n << " rows, window " << window << ", at " << i;
    }
  }
}

TEST_P(AttentionTest, ExactRowsDoNotDependOnTheStep) {
  ExpectExactRows(GetParam(), 40, {{1, 40}, {23, 40}, {1, 17}, {7, 23}});
}

// A window of one token, less than a page, a page, no multiple of anything, and more than there is.
constexpr int64_t kWindows[] = {1, 7, 16, 37, 1000};

TEST_P(AttentionTest, SingleRowsWithAWindow) {
  for (const int64_t window : kWindows) {
    const Step step(GetParam(), {{1, 1}, {1, 16}, {1, 17}, {0, 5}, {1, 101}}, 10, 1, window);
    const Array expected = step.OnCpu();
    ExpectNear(step.OnDevice(), expected);
    if (window == 37) ExpectNear(step.OnDevice(AttentionPath::kExact), expected);
  }
}

TEST_P(AttentionTest, ManyRowsWithAWindow) {
  for (const int64_t window : kWindows) {
    const Step step(GetParam(), {{3, 3}, {40, 40}, {0, 3}, {2, 64}, {17, 110}}, 11, 1, window);
    OrderThreads(static_cast<uint64_t>(window));
    ExpectNear(step.OnDevice(), step.OnCpu());
  }
}

TEST_P(AttentionTest, ExactRowsWithAWindow) {
  ExpectExactRows(GetParam(), 130, {{1, 130}, {23, 117}}, 23);
}

class LongTest : public testing::TestWithParam<Case> {};
constexpr Case kLongCases[] = {{3, 2, 2, 0, 8, kBF16, kBF16},
                               {3, 2, 2, 0, 10, kBF16, kBF16},
                               {3, 2, 2, 0, 8, kF32, kF32},
                               {3, 2, 2, 0, 10, kF32, kF32},
                               {3, 2, 2, 0, 8, kF16, kF16}};
// Of an average over thousands of tokens, whose roundings cancel: a lost page shows.
constexpr double kLongUnit = 2e-4;
INSTANTIATE_TEST_SUITE_P(Cases, LongTest, testing::ValuesIn(kLongCases), NameOf);

// One, two and three splits; the last of one token, and full.
TEST_P(LongTest, Splits) {
  const Step step(GetParam(), {{1, 256}, {1, 257}, {1, 512}, {1, 700}}, 6);
  const Array y = step.OnDevice();
  ExpectNear(y, step.OnCpu());
  // bounds larger than the step: the same bits, and rows beyond are left alone
  AttentionShape bounds = step.shape;
  bounds.n_tokens += 100;
  bounds.max_rows = 5;
  bounds.max_kv_len = 9000;
  EXPECT_TRUE(SameBits(step.OnDevice(AttentionPath::kFast, bounds), y));
}

// The splits are those of the window: one and two of them, however long the sequence; the last of
// one token, and full.
TEST_P(LongTest, SplitsOfAWindow) {
  for (const int64_t window : {190, 300, 512}) {
    const Step step(GetParam(), {{1, 256}, {1, 257}, {1, 449}, {1, 700}, {1, 1536}}, 12, 1, window);
    const Array y = step.OnDevice();
    ExpectNear(y, step.OnCpu());
    AttentionShape bounds = step.shape;
    bounds.max_kv_len = 9000;
    EXPECT_TRUE(SameBits(step.OnDevice(AttentionPath::kFast, bounds), y));
  }
}

// The largest score of all decides, whichever split has it.
TEST_P(LongTest, LargeScores) {
  const Step step(GetParam(), {{1, 700}, {1, 700}, {1, 300}}, 9, 1000);
  ExpectNear(step.OnDevice(), step.OnCpu(), std::max(2e-3, UnitOf(step.c.type)));
}

// Among so many sequences that a block takes one split after the other.
TEST_P(LongTest, SeveralSplitsOfABlock) {
  std::vector<Rows> rows(2500, {0, 1});
  rows[1234] = {1, 700};
  const Step step(GetParam(), rows, 8);
  for (uint64_t seed : {1, 2, 3}) {
    OrderThreads(seed);
    ExpectNear(step.OnDevice(), step.OnCpu());
  }
}

// So long that a split has 512 tokens.
TEST_P(LongTest, LargerSplits) {
  const Step step(GetParam(), {{1, 16384 + 300}}, 7);
  ExpectNear(step.OnDevice(), step.OnCpu(), kLongUnit);
}

// A window of as many splits as there can be, and a token later, of larger ones.
TEST_P(LongTest, SplitsOfALargeWindow) {
  constexpr int32_t kWindow = 16384 - 62;
  const Step step(GetParam(), {{1, kWindow + 126}, {1, kWindow + 127}}, 13, 1, kWindow);
  ExpectNear(step.OnDevice(), step.OnCpu(), kLongUnit);
}

// So long that a warp has more than 32 pages of a split.
TEST(LongSequence, HasSplitsOfManyPages) {
  const Step step({1, 1, 1, 0, 8, kBF16, kBF16}, {{1, 131072 + 100}}, 7);
  ExpectNear(step.OnDevice(), step.OnCpu(), kLongUnit);
}

class EdgeTest : public testing::TestWithParam<Case> {};
constexpr Case kEdgeCases[] = {{4, 1, 4, 0, 16, kBF16, kBF16},
                               {4, 1, 4, 0, 16, kF32, kF32},
                               {4, 1, 4, 0, 16, kF16, kF16},
                               {4, 1, 4, 0, 10, kF32, kF32}};
INSTANTIATE_TEST_SUITE_P(Cases, EdgeTest, testing::ValuesIn(kEdgeCases), NameOf);

TEST_P(EdgeTest, NaNStaysInItsRow) {
  Step step(GetParam(), {{1, 20}, {20, 40}}, 8);
  const Array clean = step.OnDevice();
  const int64_t d = step.c.d, width = 4 * d;
  step.q.set(0 * width + 2 * d, kNaN);   // row 0, head 2
  step.q.set(11 * width + 1 * d, kNaN);  // row 11, head 1
  const Array y = step.OnDevice();
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t row = i / width, head = i / d % 4;
    const bool poisoned = (row == 0 && head == 2) || (row == 11 && head == 1);
    ASSERT_TRUE(poisoned ? std::isnan(y.at(i)) : y.at(i) == clean.at(i)) << i;
  }
}

TEST_P(EdgeTest, ExactRowsWithAnyWindow) {
  for (const int64_t window : {1, 16, 64, 65, 100, 1000})
    ExpectExactRows(GetParam(), 150, {{1, 150}, {1, 129}, {40, 150}, {29, 129}}, window);
}

// A tile reads what its own rows see, not what earlier ones do: NaN in the first page stays there.
TEST_P(EdgeTest, TilesReadWhatTheirRowsSee) {
  constexpr int64_t kTileRows = 32;  // of the largest tile, with four heads
  Step step(GetParam(), {{80, 80}}, 14, 1, 10);
  const Array clean[] = {step.OnDevice(), step.OnDevice(AttentionPath::kExact)};
  const int64_t page = step.table[0] * kB * step.c.d;
  for (int64_t i = 0; i < kB * step.c.d; ++i) {
    step.pages.k.set(page + i, kNaN);
    step.pages.v.set(page + i, kNaN);
  }
  const Array y[] = {step.OnDevice(), step.OnDevice(AttentionPath::kExact)};
  for (int path = 0; path < 2; ++path) {
    EXPECT_TRUE(std::isnan(y[path].at(0)));
    const int64_t later = kTileRows * 4 * step.c.d, end = 80 * 4 * step.c.d;
    EXPECT_TRUE(SameBits(y[path]->Rows(later, end), clean[path]->Rows(later, end)));
  }
}

// The first block's keys score -inf: its tokens weigh nothing, later ones decide; a row that sees
// no others is NaN, as the CPU's is.
TEST_P(EdgeTest, ScoresOfMinusInfinityGiveNoWeight) {
  Step step(GetParam(), {{1, 40}, {24, 40}, {1, 300}}, 9);
  for (int64_t i = 0; i < step.q.size(); ++i) step.q.set(i, std::abs(step.q.at(i)) + 0.1f);
  for (int64_t s = 0; s < 3; ++s) {
    const int64_t page = step.table[static_cast<size_t>(s * step.max_blocks)] * kB * step.c.d;
    for (int64_t i = 0; i < kB * step.c.d; ++i) {
      step.pages.k.set(page + i, -std::numeric_limits<float>::infinity());
    }
  }
  const Array y = step.OnDevice();
  ExpectNear(y, step.OnCpu());
  EXPECT_FALSE(std::isnan(y.at(0)));
}

TEST(Attention, NothingToDo) {
  const Case c = {2, 1, 2, 0, 8, kF32, kF32};
  const DeviceArray none(kF32, {0, 16}), pages(kF32, {1, 1, kB, 8});
  const DeviceArray no_ints(DType::kI32, {0}), starts = Upload(Ints({0})),
                                               table(DType::kI32, {0, 1}), angles(kF32, {0, 4}),
                                               qkv(kF32, {0, 32});
  Attention(none, none, {pages, pages},
            {.q_starts = starts, .kv_lens = no_ints, .block_table = table}, {}, 1, c.map(), nullptr,
            TestStream());
  RopeStoreKv(none, {pages, pages}, qkv, angles, angles, no_ints, c.map(), TestStream());
  EXPECT_EQ(cudaStreamSynchronize(TestStream()), cudaSuccess);
}

}  // namespace
}  // namespace trireme::cuda
