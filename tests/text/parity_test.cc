// The same ids and the same text as PyPI's `tokenizers`; goldens from
// tests/golden/make_tokenizers.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/file.h"
#include "golden_strings.h"
#include "text/decoder.h"
#include "text/detokenizer.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace trireme {
namespace {

constexpr int kMessages = 5;  // failures printed per test; the rest are counted

TEST(GoldenStrings, AreDrawnAsTheScriptDrawsThem) {
  const std::vector<uint32_t> golden = ReadGolden("strings");
  ASSERT_EQ(golden.size(), kGoldenStrings);
  for (int i = 0; i < kGoldenStrings; ++i) {
    ASSERT_EQ(CrcOfTexts({DrawString(i)}), golden[i]) << "string " << i;
  }
}

// --- whole tokenizers
// -----------------------------------------------------------------------------

struct Kind {
  std::string name;
  std::string path;  // of its tokenizer.json
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

std::vector<Kind> KindsBesideTheRepository() {
  const std::string shared = TRIREME_SHARED_DIR;
  return {{"gpt2", shared + "/tokenizers/gpt2/tokenizer.json"},
          {"llama2", shared + "/tokenizers/llama2/tokenizer.json"},
          {"stories260k", shared + "/models/stories260k/tokenizer.json"}};
}

std::vector<Kind> Kinds() {
  const std::string root = TRIREME_SOURCE_DIR;
  std::vector<Kind> kinds = {{"austen", root + "/examples/models/austen/tokenizer.json"}};
  for (const char* name : {"bloom", "cl100k", "deepseek", "falcon", "gemma", "kimi", "llama3",
                           "llama_legacy", "metaspace_always", "metaspace_split", "mistral",
                           "no_unk", "o200k", "odd_merges", "qwen2"}) {
    kinds.push_back({name, StrCat(root, "/tests/golden/tokenizers/", name, ".json")});
  }
  return kinds;
}

class KindTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const Kind& kind = GetParam();
    const bool beside = kind.path.starts_with(TRIREME_SHARED_DIR);
    if (beside && !FileExists(TRIREME_SHARED_DIR)) GTEST_SKIP() << "shared/ is absent";
    absl::StatusOr<std::string> contents = ReadFile(kind.path);
    ASSERT_TRUE(contents.ok()) << Message(contents.status());
    json_ = *std::move(contents);
    absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::FromJson(json_);
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    tokenizer_ = *tokenizer;
    const nlohmann::json json = nlohmann::json::parse(json_);
    for (const auto& token : json["added_tokens"]) added_ids_.push_back(token["id"]);
  }

  uint32_t Decoded(std::span<const int32_t> ids) const {
    return CrcOfTexts({tokenizer_->Decode(ids, true), tokenizer_->Decode(ids, false)});
  }

  std::string json_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> added_ids_;
};

TEST_P(KindTest, EncodesAndDecodesAsTokenizersDoes) {
  const std::vector<uint32_t> golden = ReadGolden(GetParam().name);
  ASSERT_EQ(golden.size(), 3 + 2 * kGoldenStrings + kGoldenRandomIds);
  ASSERT_EQ(golden[0], CrcOfFile(json_))
      << GetParam().path << " has changed: run tests/golden/make_tokenizers.py";
  int failures = 0;
  const auto fail = [&](int i, const char* what, std::string_view about) {
    if (failures++ < kMessages) ADD_FAILURE() << what << " of string " << i << ": " << about;
  };
  for (int i = 0; i < kGoldenStrings; ++i) {
    const std::string text = DrawString(i);
    const absl::StatusOr<std::vector<int32_t>> ids = tokenizer_->Encode(text, true);
    ASSERT_TRUE(ids.ok()) << Message(ids.status()) << ": " << Escaped(text);
    if (CrcOfIds(*ids) != golden[3 + 2 * i]) {
      fail(i, "ids", Escaped(text) + " -> " + Join(*ids, " "));
    } else if (Decoded(*ids) != golden[4 + 2 * i]) {
      fail(i, "decoded text", Escaped(tokenizer_->Decode(*ids, false)));
    }
  }
  for (int i = 0; i < kGoldenRandomIds; ++i) {
    const std::vector<int32_t> ids = DrawIds(i, tokenizer_->vocab_size(), added_ids_);
    if (Decoded(ids) != golden[3 + 2 * kGoldenStrings + i]) {
      fail(i, "decoded random ids", Join(ids, " "));
    }
  }
  EXPECT_EQ(failures, 0);
}

// Decode(prompt + generated) less what it has in common with Decode(prompt), in whole characters.
std::string Expected(const Tokenizer& tokenizer, std::span<const int32_t> ids, size_t n_prompt,
                     bool skip) {
  const std::string prompt = tokenizer.Decode(ids.first(n_prompt), skip);
  const std::string whole = tokenizer.Decode(ids, skip);
  size_t same = std::mismatch(prompt.begin(), prompt.end(), whole.begin(), whole.end()).first -
                prompt.begin();
  while (same > 0 && same < whole.size() && (whole[same] & 0xC0) == 0x80) --same;
  return whole.substr(same);
}

void ExpectStreamed(const std::shared_ptr<const Tokenizer>& tokenizer,
                    const std::vector<int32_t>& ids, size_t n_prompt, bool skip) {
  Detokenizer detokenizer(tokenizer, std::span(ids).first(n_prompt), skip);
  std::string streamed;
  for (size_t k = n_prompt; k < ids.size(); ++k) {
    const std::string text = detokenizer.Push(ids[k]);
    ASSERT_EQ(text::FindInvalidUtf8(text), std::string::npos) << Join(ids, " ");
    streamed += text;
  }
  streamed += detokenizer.Finish();
  ASSERT_EQ(streamed, Expected(*tokenizer, ids, n_prompt, skip))
      << n_prompt << " prompt ids of " << Join(ids, " ");
}

TEST_P(KindTest, StreamsWhatItDecodes) {
  for (int i = 0; i < kGoldenRandomIds; ++i) {
    std::vector<int32_t> ids = DrawIds(i, tokenizer_->vocab_size(), added_ids_);
    if (i % 2 == 1) ids = *tokenizer_->Encode(DrawString(i), true);
    const size_t n_prompt = ids.empty() ? 0 : i * size_t{7} % (ids.size() + 1);
    ASSERT_NO_FATAL_FAILURE(ExpectStreamed(tokenizer_, ids, n_prompt, /*skip=*/i % 4 < 2));
  }
}

// Of such prompts the begin and the end are decoded alone.
TEST_P(KindTest, StreamsWhatItDecodesBehindALongPrompt) {
  for (int i = 0; i < kGoldenRandomIds; ++i) {
    std::vector<int32_t> ids;
    for (int part = 0; part < 6; ++part) {
      const int drawn = (i + part) % kGoldenRandomIds;
      const auto more = (i + part) % 3 == 0 ? *tokenizer_->Encode(DrawString(drawn), true)
                                            : DrawIds(drawn, tokenizer_->vocab_size(), added_ids_);
      ids.insert(ids.end(), more.begin(), more.end());
    }
    const size_t n_new = std::min<size_t>(ids.size(), static_cast<size_t>(i % 9));
    ASSERT_NO_FATAL_FAILURE(
        ExpectStreamed(tokenizer_, ids, ids.size() - n_new, /*skip=*/i % 4 < 2));
  }
}

std::string NameOf(const testing::TestParamInfo<Kind>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Text, KindTest, testing::ValuesIn(Kinds()), NameOf);
INSTANTIATE_TEST_SUITE_P(Shared, KindTest, testing::ValuesIn(KindsBesideTheRepository()), NameOf);

// Made by another implementation, without special tokens.
class VectorsTest : public testing::TestWithParam<const char*> {};

TEST_P(VectorsTest, GiveTheseIds) {
  if (!FileExists(TRIREME_SHARED_DIR)) GTEST_SKIP() << "shared/ is absent";
  const std::string directory = StrCat(TRIREME_SHARED_DIR, "/tokenizers/", GetParam());
  const auto tokenizer = Tokenizer::FromJson(*ReadFile(directory + "/tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  const nlohmann::json vectors = nlohmann::json::parse(*ReadFile(directory + "/vectors.json"));
  ASSERT_FALSE(vectors.empty());
  for (const auto& vector : vectors) {
    const std::string text = vector["text"];
    EXPECT_EQ(*(*tokenizer)->Encode(text, false), vector["ids"].get<std::vector<int32_t>>())
        << Escaped(text);
  }
}

INSTANTIATE_TEST_SUITE_P(Shared, VectorsTest, testing::Values("gpt2", "llama2"),
                         [](const auto& info) { return std::string(info.param); });

// --- components by themselves
// ---------------------------------------------------------------------

template <typename T>
T Make(const nlohmann::json& config) {
  absl::StatusOr<T> made = T::FromJson(config);
  CHECK(made.ok()) << Message(made.status());
  return *std::move(made);
}

std::vector<std::string> Result(const text::Normalizer& normalizer, int index) {
  return {*normalizer.Apply(DrawString(index))};
}

std::vector<std::string> Result(const text::PreTokenizer& pre_tokenizer, int index) {
  text::Pieces pieces{.text = DrawString(index)};
  if (!pieces.text.empty()) pieces.pieces = {{0, pieces.text.size()}};
  const absl::Status status = pre_tokenizer.Apply(&pieces);
  CHECK(status.ok()) << Message(status);
  std::vector<std::string> texts;
  for (const auto& piece : pieces.pieces) texts.emplace_back(pieces.View(piece));
  return texts;
}

std::vector<std::string> Result(const text::Decoder& decoder, int index) {
  text::DecodeStream stream(&decoder);
  std::string out;
  for (const std::string& token : DrawTokens(index)) stream.Push(token, &out);
  stream.Finish(&out);
  return {out};
}

template <typename T>
void CheckComponents(const std::string& kind) {
  const nlohmann::json components = nlohmann::json::parse(ReadGoldenFile("components.json"));
  const std::vector<uint32_t> golden = ReadGolden("components");
  ASSERT_EQ(golden.size(), components.size() * kGoldenComponentStrings);
  int checked = 0;
  for (size_t c = 0; c < components.size(); ++c) {
    if (components[c]["kind"] != kind) continue;
    const auto component = Make<T>(components[c]["config"]);
    int failures = 0;
    for (int i = 0; i < kGoldenComponentStrings; ++i) {
      const std::vector<std::string> result = Result(component, i);
      if (CrcOfTexts(result) == golden[c * kGoldenComponentStrings + i] || ++failures > 2) continue;
      std::string shown;
      for (const std::string& text : result) shown += "[" + Escaped(text) + "]";
      ADD_FAILURE() << components[c]["config"] << " on "
                    << (kind == "decoder" ? Join(DrawTokens(i), "|") : Escaped(DrawString(i)))
                    << "\ngives " << shown;
    }
    EXPECT_EQ(failures, 0) << components[c]["config"];
    ++checked;
  }
  EXPECT_GT(checked, 10);
}

TEST(Components, Normalizers) { CheckComponents<text::Normalizer>("normalizer"); }
TEST(Components, PreTokenizers) { CheckComponents<text::PreTokenizer>("pre_tokenizer"); }
TEST(Components, Decoders) { CheckComponents<text::Decoder>("decoder"); }

}  // namespace
}  // namespace trireme
