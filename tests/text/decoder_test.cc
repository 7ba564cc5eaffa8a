#include "text/decoder.h"

#include <gtest/gtest.h>

#include <random>

namespace trireme::text {
namespace {

// `chunks` through a Fuse and then `step`.
std::string Fused(const nlohmann::json& step, const std::vector<std::string>& chunks) {
  const nlohmann::json json = {{"type", "Sequence"}, {"decoders", {{{"type", "Fuse"}}, step}}};
  const absl::StatusOr<Decoder> decoder = Decoder::FromJson(json);
  EXPECT_TRUE(decoder.ok()) << Message(decoder.status());
  DecodeStream stream(&*decoder);
  std::string out;
  for (const std::string& chunk : chunks) stream.Push(chunk, &out);
  stream.Finish(&out);
  return out;
}

class FusedTest : public testing::Test {
 protected:
  int Draw(int n) { return static_cast<int>(random_() % n); }
  std::string Word(int max, const char* letters) {
    std::string word;
    for (int n = Draw(max + 1); n > 0; --n) word += letters[Draw(2)];
    return word;
  }
  std::mt19937 random_{1};
};

TEST_F(FusedTest, ReplaceFindsWhatSpansChunks) {
  for (int round = 0; round < 20'000; ++round) {
    const std::string from = "a" + Word(4, "ab");
    std::vector<std::string> chunks;
    std::string text;
    for (int n = Draw(6); n > 0; --n) text += chunks.emplace_back(Word(5, "ab"));
    std::string expected = text;
    for (size_t at = 0; (at = expected.find(from, at)) != std::string::npos; ++at) {
      expected.replace(at, from.size(), "X");
    }
    const nlohmann::json step = {
        {"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", "X"}};
    ASSERT_EQ(Fused(step, chunks), expected) << from << " in " << testing::PrintToString(chunks);
  }
}

TEST_F(FusedTest, StripTakesFromBothEndsOfTheWholeText) {
  for (int round = 0; round < 20'000; ++round) {
    const int start = Draw(4), stop = Draw(4);
    std::vector<std::string> chunks;
    std::string text;
    for (int n = Draw(6); n > 0; --n) text += chunks.emplace_back(Word(3, " x"));
    size_t begin = 0, end = text.size();
    while (begin < text.size() && int(begin) < start && text[begin] == ' ') ++begin;
    while (end > 0 && int(text.size() - end) < stop && text[end - 1] == ' ') --end;
    const std::string expected = begin < end ? text.substr(begin, end - begin) : "";
    const nlohmann::json step = {
        {"type", "Strip"}, {"content", " "}, {"start", start}, {"stop", stop}};
    ASSERT_EQ(Fused(step, chunks), expected)
        << start << ", " << stop << " of " << testing::PrintToString(chunks);
  }
}

TEST_F(FusedTest, ReplaceShowsATextAsSoonAsItIsCertain) {
  const nlohmann::json json = {
      {"type", "Sequence"},
      {"decoders",
       {{{"type", "Fuse"}},
        {{"type", "Replace"}, {"pattern", {{"String", "aab"}}}, {"content", "X"}}}}};
  const absl::StatusOr<Decoder> decoder = Decoder::FromJson(json);
  DecodeStream stream(&*decoder);
  const auto push = [&](const char* chunk) {
    std::string out;
    stream.Push(chunk, &out);
    return out;
  };
  EXPECT_EQ(push("ca"), "c");
  EXPECT_EQ(push("a"), "");
  EXPECT_EQ(push("a"), "a");
  EXPECT_EQ(push("b"), "X");
  EXPECT_EQ(push("b"), "b");
}

}  // namespace
}  // namespace trireme::text
