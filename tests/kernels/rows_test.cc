// Norms, sums, dropout, activations, gathers: against float64, and to the bit between backends.
#include <cmath>
#include <functional>

#include "kernels/philox.h"
#include "tests/kernels/ops_test_util.h"

namespace trireme {
namespace {

struct Case {
  DType type;
  int64_t t, h;
};
constexpr Case kCases[] = {
    {DType::kF32, 1, 1},  {DType::kF32, 3, 16},  {DType::kF32, 5, 37},   {DType::kF32, 17, 2048},
    {DType::kBF16, 1, 5}, {DType::kBF16, 4, 64}, {DType::kBF16, 7, 131}, {DType::kBF16, 17, 2048},
    {DType::kF32, 0, 8},  {DType::kF16, 1, 5},   {DType::kF16, 7, 131},  {DType::kF16, 17, 2048}};

class RowsTest : public testing::TestWithParam<Case> {
 protected:
  // Runs `verb` on every backend, on all rows and on each row alone, and returns what it left in
  // the output, once all agree. verb(ops, y, begin, end) fills rows [begin, end).
  Array Agreed(Array y, const std::function<void(Ops&, Tensor, int64_t, int64_t)>& verb) {
    const auto [type, t, h] = GetParam();
    const Array start = Copy(y);
    verb(PlainOps(), y, 0, t);
    for (NamedOps& ops : AllOps()) {
      const Array other = Copy(start), alone = Copy(start);
      verb(*ops.ops, other, 0, t);
      EXPECT_TRUE(SameBits(other, y)) << ops.name;
      for (int64_t i = 0; i < t; ++i) verb(*ops.ops, alone->Rows(i, i + 1), i, i + 1);
      EXPECT_TRUE(SameBits(alone, y)) << ops.name << ", row by row";
    }
    return y;
  }
  // Each element within `units` roundings of `expected(row, column)`.
  void ExpectNear(const Array& y, double units,
                  const std::function<double(int64_t, int64_t)>& expected) {
    const int64_t width = y->dim(1);
    for (int64_t i = 0; i < y.size(); ++i) {
      const double value = expected(i / width, i % width);
      ASSERT_NEAR(y.at(i), value,
                  Tolerance(y->dtype(), std::fabs(value), 1) +
                      Tolerance(DType::kF32, std::fabs(value), units))
          << i / width << " " << i % width;
    }
  }
};

TEST_P(RowsTest, RmsNorm) {
  const auto [type, t, h] = GetParam();
  const Array x = Random(type, {t, h}, 1), w = Random(DType::kF32, {h}, 2);
  const Array y =
      Agreed(Array(type, {t, h}), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
        ops.RmsNorm(out, x->Rows(begin, end), w, 1e-5f);
      });
  ExpectNear(y, 12, [&](int64_t row, int64_t c) {
    double squares = 0;
    for (int64_t i = 0; i < x->dim(1); ++i)
      squares += double{x.at(row * x->dim(1) + i)} * x.at(row * x->dim(1) + i);
    return x.at(row * x->dim(1) + c) / std::sqrt(squares / static_cast<double>(x->dim(1)) + 1e-5f) *
           w.at(c);
  });
}

TEST_P(RowsTest, AddRmsNormIsAddThenRmsNorm) {
  const auto [type, t, h] = GetParam();
  const Array x = Random(type, {t, h}, 1), r = Random(type, {t, h}, 3),
              w = Random(DType::kF32, {h}, 2);
  for (NamedOps& ops : AllOps()) {
    const Array sum = Copy(r), normed(type, {t, h}), added = Copy(r), expected(type, {t, h});
    ops.ops->AddRmsNorm(normed, sum, x, w, 1e-6f);
    ops.ops->Add(added, x);
    ops.ops->RmsNorm(expected, added, w, 1e-6f);
    EXPECT_TRUE(SameBits(sum, added)) << ops.name;
    EXPECT_TRUE(SameBits(normed, expected)) << ops.name;
  }
}

TEST_P(RowsTest, AddRoundsOnce) {
  const auto [type, t, h] = GetParam();
  const Array x = Random(type, {t, h}, 1), r = Random(type, {t, h}, 3);
  const Array y = Agreed(Copy(r), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
    ops.Add(out, x->Rows(begin, end));
  });
  Array expected(type, {t, h});
  for (int64_t i = 0; i < t * h; ++i) expected.set(i, r.at(i) + x.at(i));
  EXPECT_TRUE(SameBits(y, expected));
}

// Rows far from 0, so that their mean matters.
TEST_P(RowsTest, LayerNorm) {
  const auto [type, t, h] = GetParam();
  Array x = Random(type, {t, h}, 1);
  for (int64_t i = 0; i < x.size(); ++i) x.set(i, x.at(i) + 3);
  const Array w = Random(DType::kF32, {h}, 2), bias = Random(DType::kF32, {h}, 3);
  for (const bool with_bias : {false, true}) {
    const Tensor b = with_bias ? *bias : Tensor();
    const Array y =
        Agreed(Array(type, {t, h}), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
          ops.LayerNorm(out, x->Rows(begin, end), w, b, 1e-5f);
        });
    for (int64_t row = 0; row < t; ++row) {
      double mean = 0, squares = 0;
      for (int64_t i = 0; i < h; ++i) mean += x.at(row * h + i) / static_cast<double>(h);
      for (int64_t i = 0; i < h; ++i) squares += std::pow(x.at(row * h + i) - mean, 2);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(h) + 1e-5f);
      for (int64_t c = 0; c < h; ++c) {
        const double add = with_bias ? bias.at(c) : 0, centred = x.at(row * h + c) - mean;
        const double value = centred * scale * w.at(c) + add;
        // of the element and of what is added up: the mean has the roundings of its magnitude
        const double magnitude =
            (std::fabs(centred) + 4) * scale * std::fabs(w.at(c)) + std::fabs(add);
        ASSERT_NEAR(y.at(row * h + c), value,
                    Tolerance(type, std::fabs(value), 1) + Tolerance(DType::kF32, magnitude, 20))
            << row << " " << c;
      }
    }
  }
}

TEST_P(RowsTest, AddLayerNormIsAddThenLayerNorm) {
  const auto [type, t, h] = GetParam();
  const Array x = Random(type, {t, h}, 1), r = Random(type, {t, h}, 3),
              w = Random(DType::kF32, {h}, 2), b = Random(DType::kF32, {h}, 4);
  for (NamedOps& ops : AllOps()) {
    const Array sum = Copy(r), normed(type, {t, h}), added = Copy(r), expected(type, {t, h});
    ops.ops->AddLayerNorm(normed, sum, x, w, b, 1e-6f);
    ops.ops->Add(added, x);
    ops.ops->LayerNorm(expected, added, w, b, 1e-6f);
    EXPECT_TRUE(SameBits(sum, added)) << ops.name;
    EXPECT_TRUE(SameBits(normed, expected)) << ops.name;
  }
}

struct NamedActivation {
  Activation act;
  double (*formula)(double);
  double units;  // of float32: roundings of an exponent grow with it
};
const NamedActivation kActivations[] = {
    {Activation::kSilu, [](double a) { return a / (1 + std::exp(-a)); }, 6},
    {Activation::kGelu, [](double a) { return 0.5 * a * std::erfc(-a / std::sqrt(2.0)); }, 200},
    {Activation::kGeluTanh,
     [](double a) {
       const double u = std::sqrt(2 / std::acos(-1.0)) * (a + 0.044715 * a * a * a);
       return a / (1 + std::exp(-2 * u));
     },
     200}};

TEST_P(RowsTest, Activations) {
  const auto [type, t, h] = GetParam();
  Array x = Random(type, {t, 2 * h}, 1, 4);
  const float extremes[] = {100, -100, 88.8f, -88.8f, 1e10f, -1e10f, 0, -0.0f};
  for (int64_t i = 0; i < std::min<int64_t>(h * std::min<int64_t>(t, 1), 8); ++i) {
    x.set(i, type == DType::kF16 ? std::clamp(extremes[i], -200.0f, 200.0f) : extremes[i]);
  }
  for (const NamedActivation& a : kActivations) {
    const Array gated =
        Agreed(Array(type, {t, h}), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
          ops.GatedAct(out, x->Rows(begin, end), a.act);
        });
    ExpectNear(gated, a.units, [&](int64_t row, int64_t c) {
      const int64_t at = row * x->dim(1) + c;
      return a.formula(x.at(at)) * x.at(at + x->dim(1) / 2);
    });
    const Array plain =
        Agreed(Array(type, {t, 2 * h}), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
          ops.Act(out, x->Rows(begin, end), a.act);
        });
    ExpectNear(plain, a.units,
               [&](int64_t row, int64_t c) { return a.formula(x.at(row * x->dim(1) + c)); });
  }
}

TEST_P(RowsTest, SumPartsAddsInTheGivenOrder) {
  const auto [type, t, h] = GetParam();
  const Array a = Random(DType::kF32, {t, h}, 1), b = Random(DType::kF32, {t, h}, 2, 1e4f);
  const Array c = Random(DType::kF32, {t, h}, 3, 1e-3f), bias = Random(DType::kF32, {h}, 4);
  const std::vector<uint8_t> merges[] = {{0, 1, 1}, {0, 0, 2}};
  for (int order : {0, 1}) {
    const Array y =
        Agreed(Array(type, {t, h}), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
          const std::vector<const float*> parts = {
              a->Rows(begin, end).f32(), b->Rows(begin, end).f32(), c->Rows(begin, end).f32()};
          ops.SumParts(out, parts, merges[order], bias->f32());
        });
    Array expected(type, {t, h});
    for (int64_t i = 0; i < t * h; ++i) {
      const float sum = order == 0 ? (a.at(i) + b.at(i)) + c.at(i) : a.at(i) + (b.at(i) + c.at(i));
      expected.set(i, sum + bias.at(i % h));
    }
    EXPECT_TRUE(SameBits(y, expected)) << order;
  }
  const Array one =
      Agreed(Array(type, {t, h}), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
        const float* part = a->Rows(begin, end).f32();
        ops.SumParts(out, {&part, 1}, std::vector<uint8_t>{0}, nullptr);
      });
  Array expected(type, {t, h});
  for (int64_t i = 0; i < t * h; ++i) expected.set(i, a.at(i));
  EXPECT_TRUE(SameBits(one, expected));
}

TEST_P(RowsTest, DropoutKeepsByTheFormula) {
  const auto [type, t, h] = GetParam();
  const Array x = Random(type, {t, h}, 1);
  std::vector<DropoutRow> rows;
  for (int64_t i = 0; i < t; ++i) {
    const float p[] = {0.3f, 0.0f, 1.0f, 0.999f};
    rows.push_back(
        {p[i % 4], 0x123456789abcdefu + static_cast<uint64_t>(i), static_cast<int32_t>(i * 100)});
  }
  const Array y = Agreed(Copy(x), [&](Ops& ops, Tensor out, int64_t begin, int64_t end) {
    ops.Dropout(
        out, std::span(rows).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)),
        5);
  });
  Array expected(type, {t, h});
  for (int64_t i = 0; i < t * h; ++i) {
    const DropoutRow& row = rows[static_cast<size_t>(i / h)];
    const auto c = static_cast<uint32_t>(i % h);
    const uint32_t draw =
        Philox(row.seed, {c / 4, static_cast<uint32_t>(row.position), 5, kDropoutPurpose})[c % 4];
    const bool keep = static_cast<double>(draw) * 0x1p-32 >= static_cast<double>(row.p);
    expected.set(i, row.p == 0 ? x.at(i) : keep ? x.at(i) / (1.0f - row.p) : 0.0f);
  }
  EXPECT_TRUE(SameBits(y, expected));
}

TEST_P(RowsTest, GatherRows) {
  const auto [type, t, h] = GetParam();
  if (t == 0) {
    PlainOps().GatherRows(Array(type, {0, h}), Array(type, {0, h}), Ints({}));
    return;
  }
  const Array x = Random(type, {t, h}, 1), y(type, {3, h});
  const auto last = static_cast<int32_t>(t - 1);
  PlainOps().GatherRows(y, x, Ints({last, 0, last}));
  EXPECT_TRUE(SameBits(y->Rows(0, 1), x->Rows(last, last + 1)));
  EXPECT_TRUE(SameBits(y->Rows(1, 2), x->Rows(0, 1)));
  EXPECT_TRUE(SameBits(y->Rows(2, 3), x->Rows(last, last + 1)));
}

TEST_P(RowsTest, NaNAndInfinityStayInTheirRow) {
  const auto [type, t, h] = GetParam();
  if (t < 3) return;
  Array x = Random(type, {t, h}, 1);
  const Array w = Random(DType::kF32, {h}, 2), clean(type, {t, h}), y(type, {t, h});
  PlainOps().RmsNorm(clean, x, w, 1e-5f);
  x.set(h, std::nanf(""));
  x.set(2 * h, HUGE_VALF);
  for (NamedOps& ops : AllOps()) {
    ops.ops->RmsNorm(y, x, w, 1e-5f);
    EXPECT_TRUE(std::isnan(y.at(h))) << ops.name;
    EXPECT_TRUE(SameBits(y->Rows(0, 1), clean->Rows(0, 1))) << ops.name;
    EXPECT_TRUE(SameBits(y->Rows(3, t), clean->Rows(3, t))) << ops.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RowsTest, testing::ValuesIn(kCases), [](const auto& info) {
  return StrCat(Name(info.param.type), "_", info.param.t, "_", info.param.h);
});

TEST(Allocate, ZeroedAndAligned) {
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{3} << 20, size_t{5000001}}) {
    const Buffer buffer = PlainOps().Allocate(bytes);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    for (size_t i = 0; i < bytes; i += 997) ASSERT_EQ(buffer.data()[i], std::byte{0});
  }
}

TEST(MakeCpuOps, RefusesBadThreads) {
  EXPECT_EQ(MakeCpuOps({.n_threads = 0}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeCpuOps({.n_threads = 2, .cpus = {0}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme
