#include "server/prefix_index.h"

#include "gtest/gtest.h"

namespace trireme {
namespace {

SequenceRequest Prompt(int32_t first, size_t n_tokens, const std::string& salt = "") {
  SequenceRequest sequence;
  for (size_t i = 0; i < n_tokens; ++i)
    sequence.prompt_ids.push_back(first + static_cast<int32_t>(i));
  sequence.cache_salt = salt;
  return sequence;
}

constexpr int64_t kBlock = PrefixIndex::kBlockTokens;

TEST(PrefixIndexTest, KnowsTheLongestBeginning) {
  PrefixIndex index;
  index.Add(PrefixIndex::Chain(Prompt(0, 300)));
  EXPECT_EQ(index.Match(PrefixIndex::Chain(Prompt(0, 1000))), 4 * kBlock);
  EXPECT_EQ(index.Match(PrefixIndex::Chain(Prompt(0, 130))), 2 * kBlock);
  EXPECT_EQ(index.Match(PrefixIndex::Chain(Prompt(0, 63))), 0);
  EXPECT_EQ(index.Match(PrefixIndex::Chain(Prompt(1, 300))), 0);
  SequenceRequest changed = Prompt(0, 300);
  changed.prompt_ids[100] = 7;
  EXPECT_EQ(index.Match(PrefixIndex::Chain(changed)), kBlock);
}

TEST(PrefixIndexTest, OtherSaltsAndDropoutsAreOtherPrefixes) {
  PrefixIndex index;
  index.Add(PrefixIndex::Chain(Prompt(0, 300, "salt")));
  EXPECT_EQ(index.Match(PrefixIndex::Chain(Prompt(0, 300))), 0);
  SequenceRequest dropped = Prompt(0, 300, "salt");
  dropped.dropout = 0.1f;
  EXPECT_EQ(index.Match(PrefixIndex::Chain(dropped)), 0);
  EXPECT_EQ(index.Match(PrefixIndex::Chain(Prompt(0, 300, "salt"))), 4 * kBlock);
}

TEST(PrefixIndexTest, ForgetsWhatIsLongPast) {
  PrefixIndex index(/*n_blocks=*/8);
  const auto first = PrefixIndex::Chain(Prompt(0, 4 * kBlock));
  index.Add(first);
  index.Add(PrefixIndex::Chain(Prompt(1, 4 * kBlock)));
  EXPECT_EQ(index.Match(first), 4 * kBlock);
  index.Add(PrefixIndex::Chain(Prompt(2, 4 * kBlock)));
  EXPECT_EQ(index.Match(first), 4 * kBlock);
  for (int32_t i = 3; i < 8; ++i) index.Add(PrefixIndex::Chain(Prompt(i, 4 * kBlock)));
  EXPECT_EQ(index.Match(first), 0);
}

}  // namespace
}  // namespace trireme
