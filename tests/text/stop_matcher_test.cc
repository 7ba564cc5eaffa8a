#include "text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace trireme {
namespace {

struct Outcome {
  std::string shown;
  std::optional<int> matched;
  bool operator==(const Outcome&) const = default;
};

void PrintTo(const Outcome& outcome, std::ostream* out) {
  *out << '"' << outcome.shown << "\", matched " << outcome.matched.value_or(-1);
}

Outcome Feed(const std::vector<std::string>& stops, const std::vector<std::string>& parts) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& part : parts) {
    const StopMatcher::Result result = matcher.Push(part);
    outcome.shown += result.emit;
    outcome.matched = result.matched;
  }
  outcome.shown += matcher.Flush();
  return outcome;
}

TEST(StopMatcher, FindsAStopStringThatSpansParts) {
  EXPECT_EQ(Feed({"\nUser:"}, {"Hello.", "\n", "Us", "er", ": hi"}), (Outcome{"Hello.", 0}));
}

TEST(StopMatcher, ShowsWhatTurnsOutNotToBeOne) {
  StopMatcher matcher({"stop!"});
  EXPECT_EQ(matcher.Push("do st").emit, "do ");
  EXPECT_EQ(matcher.Push("op").emit, "");
  EXPECT_EQ(matcher.Push(" it").emit, "stop it");
  EXPECT_EQ(matcher.Push("s").emit, "");
  EXPECT_EQ(matcher.Flush(), "s");
}

TEST(StopMatcher, TheFirstToBeCompleteCounts) {
  EXPECT_EQ(Feed({"abcd", "bc"}, {"xabcd"}), (Outcome{"xa", 1}));
  EXPECT_EQ(Feed({"c", "abc"}, {"xabc"}), (Outcome{"x", 1}));  // complete together: the longest
}

TEST(StopMatcher, FallsBackToAShorterStart) {
  EXPECT_EQ(Feed({"aab"}, {"aaab"}), (Outcome{"a", 0}));
  EXPECT_EQ(Feed({"abac"}, {"ababac"}), (Outcome{"ab", 0}));
}

TEST(StopMatcher, NothingComesAfterAMatch) {
  StopMatcher matcher({"x"});
  EXPECT_EQ(matcher.Push("axb").emit, "a");
  const StopMatcher::Result after = matcher.Push("cxd");
  EXPECT_EQ(after.emit, "");
  EXPECT_EQ(after.matched, 0);
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcher, WithoutStopStringsAllTextPasses) {
  EXPECT_EQ(Feed({}, {"a", "", "b"}), (Outcome{"ab", std::nullopt}));
  EXPECT_EQ(Feed({""}, {"a", "b"}), (Outcome{"ab", std::nullopt}));
}

TEST(StopMatcher, NeverCutsACharacter) {
  StopMatcher matcher({"è"});              // C3 A8
  EXPECT_EQ(matcher.Push("é").emit, "é");  // C3 A9
  EXPECT_EQ(matcher.Push("aé").emit, "aé");
  EXPECT_EQ(matcher.Push("eè").matched, 0);
}

// The stop string whose end comes first, the longest of those, the first of equal ones.
Outcome BruteForce(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    int best = -1;
    for (size_t i = 0; i < stops.size(); ++i) {
      const bool ends_here = !stops[i].empty() && text.substr(0, end).ends_with(stops[i]);
      if (ends_here && (best < 0 || stops[i].size() > stops[best].size())) best = int(i);
    }
    if (best >= 0) return {text.substr(0, end - stops[best].size()), best};
  }
  return {text, std::nullopt};
}

TEST(StopMatcher, AgreesWithASearchOfTheWholeText) {
  std::mt19937 random(1);
  const auto draw = [&](int n) { return static_cast<int>(random() % n); };
  const auto word = [&](int max) {
    std::string out;
    for (int n = draw(max + 1); n > 0; --n) out += static_cast<char>('a' + draw(2));
    return out;
  };
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::string> stops, parts;
    for (int n = draw(4); n > 0; --n) stops.push_back(word(6));
    std::string text;
    for (int n = draw(8); n > 0; --n) text += parts.emplace_back(word(5));
    ASSERT_EQ(Feed(stops, parts), BruteForce(stops, text))
        << testing::PrintToString(stops) << " in " << testing::PrintToString(parts);
  }
}

}  // namespace
}  // namespace trireme
