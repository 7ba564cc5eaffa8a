#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "golden_strings.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::shared_ptr<const Tokenizer> Load(const std::string& json) {
  absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::FromJson(json);
  EXPECT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  return *tokenizer;
}

// Characters a b c, space, "ab", "aba"; `parts` are more keys of the top level.
std::string Small(const std::string& parts = "", const std::string& model = "") {
  return R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, " ": 3, "ab": 4, "aba": 5},
             "merges": ["a b", "ab a"])" +
         model + "}" + parts + "}";
}

std::string Added(const std::string& content, int id, const std::string& flags) {
  nlohmann::json token = {{"id", id},        {"content", content}, {"single_word", false},
                          {"lstrip", false}, {"rstrip", false},    {"normalized", false},
                          {"special", true}};
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) {
    if (flags.find(flag) != std::string::npos) token[flag] = true;
  }
  return R"(, "added_tokens": [)" + token.dump() + "]";
}

TEST(Tokenizer, MergesTheLowestRankFirst) {
  const auto tokenizer = Load(Small());
  EXPECT_THAT(*tokenizer->Encode("abab", true), ElementsAre(4, 4));
  EXPECT_THAT(*tokenizer->Encode("aba", true), ElementsAre(5));
  EXPECT_THAT(*tokenizer->Encode("cba", true), ElementsAre(2, 1, 0));
  EXPECT_THAT(*tokenizer->Encode("", true), IsEmpty());
}

TEST(Tokenizer, APairOfStringsIsAMergeToo) {
  const auto tokenizer = Load(R"({"model": {"vocab": {"a": 0, " ": 1, "a ": 2},
                                            "merges": [["a", " "]]}})");
  EXPECT_THAT(*tokenizer->Encode("a a", true), ElementsAre(2, 0));
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  EXPECT_EQ(Load(Small())->Encode("ab\xFF", true).status(),
            absl::InvalidArgumentError("the text is not valid UTF-8 at byte 2"));
}

TEST(Tokenizer, AnUnknownCharacterIsUnkOrAnErrorOrLeftOut) {
  EXPECT_THAT(*Load(Small("", R"(, "unk_token": "c")"))->Encode("a☃☃b", true),
              ElementsAre(0, 2, 2, 1));
  EXPECT_THAT(*Load(Small("", R"(, "unk_token": "c", "fuse_unk": true)"))->Encode("a☃☃b", true),
              ElementsAre(0, 2, 1));
  EXPECT_THAT(*Load(Small())->Encode("a☃b", true), ElementsAre(4));
  const auto broken = Load(Small("", R"(, "unk_token": "<unk>")"));
  EXPECT_THAT(*broken->Encode("ab", true), ElementsAre(4));
  EXPECT_EQ(broken->Encode("a☃", true).status(),
            absl::InvalidArgumentError(
                "the text has a character that the vocabulary lacks, and its unk_token \"<unk>\" "
                "is not in the vocabulary either"));
}

TEST(Tokenizer, IgnoreMergesTakesAWholePiece) {
  const std::string json = R"({"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [],
                                         "ignore_merges": )";
  EXPECT_THAT(*Load(json + "true}}")->Encode("ab", true), ElementsAre(2));
  EXPECT_THAT(*Load(json + "false}}")->Encode("ab", true), ElementsAre(0, 1));
}

TEST(Tokenizer, AddedTokensAreFoundInTheText) {
  const auto ids = [](const std::string& flags, const std::string& text) {
    return *Load(Small(Added("<x>", 6, flags)))->Encode(text, true);
  };
  EXPECT_THAT(ids("", "a<x>b <x"), ElementsAre(0, 6, 1, 3));
  EXPECT_THAT(ids("", "a <x> b"), ElementsAre(0, 3, 6, 3, 1));
  EXPECT_THAT(ids("lstrip", "a  <x> b"), ElementsAre(0, 6, 3, 1));
  EXPECT_THAT(ids("rstrip", "a <x>  b"), ElementsAre(0, 3, 6, 1));
  EXPECT_THAT(ids("lstrip rstrip", " <x> <x> "), ElementsAre(6, 6));
  EXPECT_THAT(ids("single_word", "a<x> <x> <x>b"), ElementsAre(0, 3, 6, 3, 1));
}

TEST(Tokenizer, ANormalizedAddedTokenIsFoundInNormalizedText) {
  const std::string lowercase = R"(, "normalizer": {"type": "Lowercase"})";
  EXPECT_THAT(*Load(Small(Added("CC", 6, "normalized") + lowercase))->Encode("AcCB", true),
              ElementsAre(0, 6, 1));
  EXPECT_THAT(*Load(Small(Added("CC", 6, "") + lowercase))->Encode("AcCCCB", true),
              ElementsAre(0, 2, 6, 2, 1));
}

TEST(Tokenizer, TheLongestAddedTokenWins) {
  nlohmann::json json = nlohmann::json::parse(Small(Added("<x>", 6, "")));
  json["added_tokens"].push_back(json["added_tokens"][0]);
  json["added_tokens"][1]["content"] = "<x><x>";
  json["added_tokens"][1]["id"] = 7;
  EXPECT_THAT(*Load(json.dump())->Encode("<x><x><x>", true), ElementsAre(7, 6));
}

TEST(Tokenizer, TheTemplateIsAddedOnlyOnRequest) {
  const auto tokenizer = Load(Small(Added("<s>", 6, "") + R"(, "post_processor": {
      "type": "TemplateProcessing", "pair": [],
      "single": [{"SpecialToken": {"id": "S", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"S": {"id": "S", "ids": [6, 0], "tokens": ["<s>", "a"]}}})"));
  EXPECT_THAT(*tokenizer->Encode("b", true), ElementsAre(6, 0, 1));
  EXPECT_THAT(*tokenizer->Encode("b", false), ElementsAre(1));
  EXPECT_THAT(*tokenizer->Encode("", true), ElementsAre(6, 0));
}

TEST(Tokenizer, LooksUpTokens) {
  const auto tokenizer = Load(Small(Added("<s>", 6, "")));
  EXPECT_EQ(tokenizer->vocab_size(), 7);
  EXPECT_EQ(tokenizer->TokenToId("aba"), 5);
  EXPECT_EQ(tokenizer->TokenToId("<s>"), 6);
  EXPECT_EQ(tokenizer->TokenToId("ba"), std::nullopt);
  EXPECT_EQ(tokenizer->IdToToken(4), "ab");
  EXPECT_EQ(tokenizer->IdToToken(6), "<s>");
  EXPECT_EQ(tokenizer->IdToToken(7), "");
  EXPECT_EQ(tokenizer->IdToToken(-1), "");
  EXPECT_TRUE(tokenizer->IsSpecial(6));
  EXPECT_FALSE(tokenizer->IsSpecial(5));
}

TEST(Tokenizer, WithoutADecoderTokensAreJoinedBySpaces) {
  const auto tokenizer = Load(Small(Added("<s>", 6, "")));
  EXPECT_EQ(tokenizer->Decode(std::vector{6, 0, 99, 5, 6}, true), "a aba");
  EXPECT_EQ(tokenizer->Decode(std::vector{6, 0, 99, 5, 6}, false), "<s> a aba <s>");
  EXPECT_EQ(tokenizer->Decode({}, true), "");
}

TEST(Tokenizer, AMegabyteOfOneCharacterIsNotQuadratic) {
  const auto tokenizer = Load(Small("", R"(, "unk_token": "c")"));
  for (const char* part : {"a", "ab", "aba", "☃"}) {
    std::string text;
    while (text.size() < 1'000'000) text += part;
    EXPECT_TRUE(tokenizer->Encode(text, true).ok());
  }
  EXPECT_EQ(tokenizer->Encode(std::string(1'000'000, 'a'), true)->size(), 1'000'000u);
}

// A piece is cut where no merge can join its characters; unk and byte tokens are in the way of
// that.
TEST(Tokenizer, LongPiecesEncodeAsTheirPartsDo) {
  for (const char* model : {"", R"(, "unk_token": "c")", R"(, "unk_token": "c", "fuse_unk": true)",
                            R"(, "byte_fallback": true, "unk_token": "c")"}) {
    const auto tokenizer = Load(Small("", model));
    std::string text;
    std::vector<int32_t> expected;
    for (int i = 0; i < 50; ++i) {  // " aba " keeps its neighbours apart
      text += " abac ";
      const std::vector<int32_t> part = *tokenizer->Encode(" abac ", true);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    EXPECT_EQ(*tokenizer->Encode(text, true), expected) << model;
  }
}

TEST(Tokenizer, IsThreadSafe) {
  const auto tokenizer = Load(ReadGoldenFile("llama3.json"));
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 100; ++i) expected.push_back(*tokenizer->Encode(DrawString(i), true));
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        const std::vector<int32_t> ids = *tokenizer->Encode(DrawString(i), true);
        if (ids != expected[i] || tokenizer->Decode(ids, true) != tokenizer->Decode(ids, true)) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace trireme
