#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/byte_level.h"
#include "text/unicode.h"

namespace trireme::text {
namespace {

std::string Repair(const std::vector<std::string>& chunks) {
  LossyUtf8 lossy;
  std::string out;
  for (const std::string& chunk : chunks) lossy.Push(chunk, &out);
  lossy.Finish(&out);
  return out;
}

TEST(Utf8, EveryCharacterRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;
    std::string bytes;
    AppendUtf8(c, &bytes);
    ASSERT_EQ(FindInvalidUtf8(bytes), std::string::npos) << static_cast<uint32_t>(c);
    size_t begin = 0, end = bytes.size();
    ASSERT_EQ(DecodeAt(bytes, &begin), c);
    ASSERT_EQ(begin, bytes.size());
    ASSERT_EQ(DecodeBefore(bytes, &end), c);
    ASSERT_EQ(end, 0u);
  }
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8("eight ASCII bytes and more"), std::string::npos);
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5", "\xFF", "\xE2\x82", "\xF0\x9F\x98", "\xC3"}) {
    EXPECT_EQ(FindInvalidUtf8(std::string("0123456789é") + bad), 12u)
        << testing::PrintToString(bad);
  }
}

// The examples of Unicode 16, table 3-8 and 3-11.
TEST(LossyUtf8, ReplacesEachMaximalSubpartOnce) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(Repair({"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"}),
            "a" + r + r + r + "b" + r + "c" + r + r + "d");
  EXPECT_EQ(Repair({"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"}), r + r + r + r + "A");
}

TEST(LossyUtf8, DoesNotDependOnTheChunks) {
  const std::string bytes = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xF0\x9F\x98\x41\xE2\x82";
  const std::string whole = Repair({bytes});
  EXPECT_EQ(whole, "aé€😀\uFFFDA\uFFFD");
  for (size_t i = 0; i <= bytes.size(); ++i) {
    for (size_t k = i; k <= bytes.size(); ++k) {
      EXPECT_EQ(Repair({bytes.substr(0, i), bytes.substr(i, k - i), bytes.substr(k)}), whole);
    }
  }
}

TEST(ByteLevel, SpellsEveryByte) {
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  std::string spelled, back;
  AppendByteCharacters(all, &spelled);
  EXPECT_EQ(FindInvalidUtf8(spelled), std::string::npos);
  AppendSpelledBytes(spelled, &back);
  EXPECT_EQ(back, all);
  std::string space;
  AppendByteCharacters(" \n", &space);
  EXPECT_EQ(space, "ĠĊ");
}

TEST(ByteLevel, ATokenOutsideTheAlphabetSpellsItself) {
  std::string bytes = "x";
  AppendSpelledBytes("Ġ日", &bytes);
  EXPECT_EQ(bytes, "xĠ日");
}

TEST(Normalize, OrdersALongRunOfMarksQuickly) {  // quadratic sorting would take hours
  constexpr int n = 500'000;
  std::string text = "a", sorted = "a";
  for (int i = 0; i < n; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";  // classes 230, 220
  for (int i = 0; i < n; ++i) sorted += i < n / 2 ? "\u0323" : "\u0301";
  EXPECT_EQ(Normalize(text, NormalizationForm::kNfd), sorted);
}

}  // namespace
}  // namespace trireme::text
