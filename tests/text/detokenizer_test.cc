#include "text/detokenizer.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

// ids of a sentencepiece-style vocabulary
enum { kUnk, kBos, kE4, kBD, kA0, k41, kThe, kCat, kMark, kDot };
constexpr const char* kSentencePiece = R"({
  "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "merges": [],
            "vocab": {"<unk>": 0, "<s>": 1, "<0xE4>": 2, "<0xBD>": 3, "<0xA0>": 4, "<0x41>": 5,
                      "▁the": 6, "▁cat": 7, "▁": 8, ".": 9}},
  "added_tokens": [{"id": 1, "content": "<s>", "special": true, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false}],
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})";

// ids of a byte-level vocabulary
enum { kSpaceHi, kF0, k9F, k98, k80, kNewline };
constexpr const char* kByteLevel = R"({
  "model": {"type": "BPE", "merges": [],
            "vocab": {"Ġhi": 0, "ð": 1, "Ł": 2, "ĺ": 3, "Ģ": 4, "Ċ": 5}},
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true}})";

std::shared_ptr<const Tokenizer> Load(const char* json) {
  absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::FromJson(json);
  EXPECT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  return *tokenizer;
}

class SentencePieceTest : public testing::Test {
 protected:
  Detokenizer After(std::vector<int32_t> prompt, bool skip = true) {
    return Detokenizer(tokenizer_, prompt, skip);
  }
  std::shared_ptr<const Tokenizer> tokenizer_ = Load(kSentencePiece);
};

TEST_F(SentencePieceTest, DropsTheLeadingSpaceOnlyAtTheBeginningOfTheText) {
  Detokenizer from_start = After({});
  EXPECT_EQ(from_start.Push(kThe), "the");
  EXPECT_EQ(from_start.Push(kCat), " cat");
  Detokenizer after_bos = After({kBos});
  EXPECT_EQ(after_bos.Push(kThe), "the");
  Detokenizer after_text = After({kBos, kThe});
  EXPECT_EQ(after_text.Push(kCat), " cat");
}

TEST_F(SentencePieceTest, ATokenHasItsBytesWithinAText) {
  EXPECT_EQ(tokenizer_->TokenBytes(kThe), " the");
  EXPECT_EQ(tokenizer_->TokenBytes(kBD), "\xBD");
  EXPECT_EQ(tokenizer_->TokenBytes(kBos), "<s>");
  EXPECT_EQ(tokenizer_->TokenBytes(99), "");
  EXPECT_EQ(Load(kByteLevel)->TokenBytes(kSpaceHi), " hi");
  EXPECT_EQ(Load(kByteLevel)->TokenBytes(k9F), "\x9F");
}

TEST_F(SentencePieceTest, ARunOfBytesComesWhenItEnds) {
  Detokenizer detokenizer = After({kThe});
  EXPECT_EQ(detokenizer.Push(kE4), "");
  EXPECT_EQ(detokenizer.Push(kBD), "");
  EXPECT_EQ(detokenizer.Push(kA0), "");
  EXPECT_EQ(detokenizer.Push(kDot), "你.");
  EXPECT_EQ(detokenizer.Push(kE4), "");
  EXPECT_EQ(detokenizer.Push(k41), "");
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD\uFFFD");  // one per byte, as Decode has it
}

TEST_F(SentencePieceTest, ACharacterBegunInThePromptComesWhole) {
  Detokenizer detokenizer = After({kThe, kE4, kBD});
  EXPECT_EQ(detokenizer.Push(kA0), "");
  EXPECT_EQ(detokenizer.Push(kDot), "你.");
}

TEST_F(SentencePieceTest, BytesOfThePromptDoNotComeAgain) {
  Detokenizer complete = After({kThe, kE4, kBD, kA0});
  EXPECT_EQ(complete.Push(kDot), ".");
  Detokenizer longer_run = After({kThe, k41});
  EXPECT_EQ(longer_run.Push(k41), "");
  EXPECT_EQ(longer_run.Push(kDot), "A.");
  Detokenizer broken = After({kThe, kE4});
  EXPECT_EQ(broken.Push(kDot), ".");
  Detokenizer nothing = After({kThe, k41});
  EXPECT_EQ(nothing.Finish(), "");
}

TEST_F(SentencePieceTest, SpecialTokensAreLeftOutOrShown) {
  Detokenizer skipping = After({kThe}, true);
  EXPECT_EQ(skipping.Push(kBos), "");
  Detokenizer showing = After({kThe}, false);
  EXPECT_EQ(showing.Push(kBos), "<s>");
}

TEST_F(SentencePieceTest, IdsWithoutATokenAreLeftOut) {
  Detokenizer detokenizer = After({-1, 1'000'000});
  EXPECT_EQ(detokenizer.Push(-5), "");
  EXPECT_EQ(detokenizer.Push(77), "");
  EXPECT_EQ(detokenizer.Push(kThe), "the");
}

TEST(Detokenizer, ByteLevelWithholdsOnlyAnIncompleteCharacter) {
  Detokenizer detokenizer(Load(kByteLevel), std::vector<int32_t>{kSpaceHi});
  EXPECT_EQ(detokenizer.Push(kSpaceHi), " hi");
  EXPECT_EQ(detokenizer.Push(kF0), "");
  EXPECT_EQ(detokenizer.Push(k9F), "");
  EXPECT_EQ(detokenizer.Push(k98), "");
  EXPECT_EQ(detokenizer.Push(k80), "😀");
  EXPECT_EQ(detokenizer.Push(kF0), "");
  EXPECT_EQ(detokenizer.Push(kNewline), "\uFFFD\n");
  EXPECT_EQ(detokenizer.Push(k9F), "\uFFFD");
  EXPECT_EQ(detokenizer.Push(kF0), "");
  EXPECT_EQ(detokenizer.Push(k9F), "");
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD");
}

TEST(Detokenizer, ByteLevelCharacterBegunInThePromptComesWhole) {
  Detokenizer detokenizer(Load(kByteLevel), std::vector<int32_t>{kSpaceHi, kF0, k9F});
  EXPECT_EQ(detokenizer.Push(k98), "");
  EXPECT_EQ(detokenizer.Push(k80), "😀");
}

TEST(Detokenizer, TwoChoicesOfOnePromptGoTheirOwnWays) {
  Detokenizer first(Load(kByteLevel), std::vector<int32_t>{kF0, k9F});
  Detokenizer second = first;
  EXPECT_EQ(first.Push(kNewline), "\n");
  EXPECT_EQ(second.Push(k98), "");
  EXPECT_EQ(second.Push(k80), "😀");
}

}  // namespace
}  // namespace trireme
