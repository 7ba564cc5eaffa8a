#include "text/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::text {
namespace {

std::vector<std::string> Matches(const std::string& regex, const std::string& text) {
  const absl::StatusOr<Pattern> pattern = Pattern::Regex(regex);
  if (!pattern.ok()) return {pattern.status().ToString()};
  std::vector<Span> spans;
  const absl::Status status = pattern->Cut(text, &spans);
  if (!status.ok()) return {status.ToString()};
  std::vector<std::string> found;
  for (const Span& span : spans) {
    if (span.matched) found.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return found;
}

using testing::ElementsAre;

// What these give was seen in `tokenizers` 0.23.3; parity_test compares many more.
TEST(Pattern, FollowsOniguruma) {
  EXPECT_THAT(Matches(R"(\s+)", "a \u180E\u3000b"), ElementsAre(" ", "\u3000"));
  EXPECT_THAT(Matches(R"(\w+)", "x²-Ⅷ"), ElementsAre("x²", "Ⅷ"));
  EXPECT_THAT(Matches(R"([\w]+)", "x²-Ⅷ"), ElementsAre("x", "Ⅷ"));
  EXPECT_THAT(Matches(R"(\h+)", "xaFz9"), ElementsAre("aF", "9"));
  EXPECT_THAT(Matches(R"(\p{N}{1,3}+)", "1234567"), ElementsAre("1234567"));
  EXPECT_THAT(Matches(R"(a{2,3}?)", "aaaaa"), ElementsAre("aa", "aa"));
  EXPECT_THAT(Matches(R"(x{)", "ax{b"), ElementsAre("x{"));
  EXPECT_THAT(Matches(R"(^b|a$)", "a\nb"), ElementsAre("a", "b"));
  EXPECT_THAT(Matches(R"((?m:a.b))", "a\nb"), ElementsAre("a\nb"));
  EXPECT_THAT(Matches(R"(\p{Han}+)", "ー漢字"), ElementsAre("漢字"));  // not Script_Extensions
  EXPECT_THAT(Matches(R"([\p{L}&&[^\p{Han}]]+)", "ab漢字c"), ElementsAre("ab", "c"));
  EXPECT_THAT(Matches(R"((?i:'s))", "'S'\u017F"), ElementsAre("'S", "'\u017F"));
  EXPECT_THAT(Matches(R"(x(?i)y|z)", "xYZxz"), ElementsAre("xY", "xz"));
  EXPECT_THAT(Matches(R"(\p{S})", "\U0001FAE9"), ElementsAre("\U0001FAE9"));  // Unicode 16
}

TEST(Pattern, AMatchMayBeEmptyButNotBehindAnother) {
  std::vector<Span> spans;
  ASSERT_TRUE(Pattern::Regex("x*")->Cut("axb", &spans).ok());
  std::vector<std::pair<size_t, size_t>> matched;
  for (const Span& span : spans) {
    if (span.matched) matched.emplace_back(span.begin, span.end);
  }
  EXPECT_THAT(matched, ElementsAre(std::pair(0, 0), std::pair(1, 2), std::pair(3, 3)));
}

TEST(Pattern, NamesWhatItDoesNotSupport) {
  const std::pair<const char*, const char*> cases[] = {
      {R"((a)\1)", R"x(regular expression "(a)\1": "\1" is not supported)x"},
      {R"(a\Kb)", R"x(regular expression "a\Kb": "\K" is not supported)x"},
      {R"([[:alpha:]])", R"x(regular expression "[[:alpha:]]": a POSIX bracket is not supported)x"},
      {R"(\p{InGreek})",
       R"x(regular expression "\p{InGreek}": property "InGreek" is not supported)x"},
      {R"((?~a))", R"x(regular expression "(?~a)": "(?~" is not supported)x"},
      {R"((?<=a+)b)",
       R"x(regular expression "(?<=a+)b": PCRE2: lookbehind assertion is not fixed length)x"},
  };
  for (const auto& [regex, message] : cases) {
    EXPECT_EQ(Pattern::Regex(regex).status(), absl::UnimplementedError(message));
  }
}

TEST(Pattern, NamesWhatIsMalformed) {
  const std::pair<const char*, const char*> cases[] = {
      {"a(b", R"x(regular expression "a(b": a group is not closed)x"},
      {"a)b", R"x(regular expression "a)b": unmatched ")")x"},
      {"[a", R"x(regular expression "[a": a character class is not closed)x"},
      {"*a", R"x(regular expression "*a": nothing to repeat before "*")x"},
      {"a\\", R"x(regular expression "a\": it ends in a backslash)x"},
      {"[z-a]", R"x(regular expression "[z-a]": a range is empty)x"},
      {R"(\x{110000})",
       R"x(regular expression "\x{110000}": an escape is not a Unicode character)x"},
  };
  for (const auto& [regex, message] : cases) {
    EXPECT_EQ(Pattern::Regex(regex).status(), absl::InvalidArgumentError(message));
  }
}

TEST(Pattern, GivesUpOnCatastrophicBacktracking) {
  const absl::StatusOr<Pattern> pattern = Pattern::Regex(R"((?:a|a)+[bc])");
  std::vector<Span> spans;
  EXPECT_EQ(pattern->Cut(std::string(10'000, 'a'), &spans),
            absl::ResourceExhaustedError(
                "regular expression \"(?:a|a)+[bc]\" gave up on 10000 bytes of text: "
                "PCRE2: match limit exceeded"));
}

TEST(Pattern, TakesAMegabyteOfOneCharacter) {
  const auto llama3 = Pattern::Regex(
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
      R"(|\s*[\r\n]+|\s+(?!\S)|\s+)");
  for (const char* part : {" ", "a", "\n", ".", " \n", "\u3000", "é"}) {
    std::string text;
    while (text.size() < 1'000'000) text += part;
    std::vector<Span> spans;
    EXPECT_TRUE(llama3->Cut(text, &spans).ok()) << testing::PrintToString(part);
    EXPECT_TRUE(llama3->Cut(text + "x", &spans).ok()) << testing::PrintToString(part);
  }
}

TEST(Pattern, BehaviorsDecideWhereAMatchGoes) {
  const auto pieces = [](SplitBehavior behavior) {
    const std::string text = "the-final--countdown";
    std::vector<Span> spans;
    EXPECT_TRUE(Pattern::Literal("-").Cut(text, &spans).ok());
    ApplyBehavior(behavior, &spans);
    std::vector<std::string> out;
    for (const Span& span : spans) out.push_back(text.substr(span.begin, span.end - span.begin));
    return out;
  };
  EXPECT_THAT(pieces(SplitBehavior::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(pieces(SplitBehavior::kIsolated),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(pieces(SplitBehavior::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(pieces(SplitBehavior::kMergedWithNext),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(pieces(SplitBehavior::kContiguous),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

}  // namespace
}  // namespace trireme::text
