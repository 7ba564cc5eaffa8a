// Conversions of element types, and Philox, against published values and arithmetic.
#include "kernels/dtype.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"
#include "kernels/philox.h"

namespace trireme {
namespace {

TEST(DType, NamesAndSizes) {
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI32}) {
    EXPECT_EQ(ParseDType(Name(type)), type);
  }
  EXPECT_EQ(ParseDType("f64"), std::nullopt);
  EXPECT_EQ(SizeOf(DType::kBF16), 2u);
}

TEST(F16, RoundTripsEveryValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = FloatFromF16(half);
    if (std::isnan(value)) {
      EXPECT_EQ(F16FromFloat(value) & 0x7e00u, 0x7e00u);
    } else {
      EXPECT_EQ(F16FromFloat(value), half) << bits;
    }
  }
}

// Between neighbours a < b, everything below the middle gives a, above it b, the middle the even
// one.
TEST(F16, RoundsToNearestEven) {
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const float a = FloatFromF16(half), b = FloatFromF16(static_cast<uint16_t>(half + 1));
    const float middle = (a + b) / 2;
    EXPECT_EQ(F16FromFloat(std::nextafter(middle, 0.0f)), half);
    EXPECT_EQ(F16FromFloat(std::nextafter(middle, 1e9f)), half + 1);
    EXPECT_EQ(F16FromFloat(middle), half % 2 == 0 ? half : half + 1);
    EXPECT_EQ(F16FromFloat(-middle), 0x8000u | (half % 2 == 0 ? half : half + 1));
  }
  EXPECT_EQ(F16FromFloat(65519.99f), 0x7bff);
  EXPECT_EQ(F16FromFloat(65520.0f), 0x7c00);
  EXPECT_EQ(F16FromFloat(1e-30f), 0);
}

TEST(Bf16, RoundsToNearestEven) {
  for (uint32_t half = 0; half < 0x7f80; ++half) {
    const auto bits = static_cast<uint16_t>(half);
    const float a = FloatFromBf16(bits);
    const auto at = [&](uint32_t low) { return std::bit_cast<float>((half << 16) | low); };
    EXPECT_EQ(Bf16FromFloat(a), bits);
    EXPECT_EQ(Bf16FromFloat(at(0x7fff)), bits);
    EXPECT_EQ(Bf16FromFloat(at(0x8000)), half % 2 == 0 ? half : half + 1);
    EXPECT_EQ(Bf16FromFloat(at(0x8001)), half + 1);
  }
  EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(-HUGE_VALF)), -HUGE_VALF);
}

// The known answers that come with Random123.
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox(0, {0, 0, 0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox(~uint64_t{0}, {~0u, ~0u, ~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox(0x299f31d0a4093822u, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

}  // namespace
}  // namespace trireme
