#include "parallel/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelConfig Config(int64_t heads, int64_t kv_heads) {
  ModelConfig config;
  config.hidden = 64;
  config.n_layers = 5;
  config.n_heads = heads;
  config.n_kv_heads = kv_heads;
  config.head_dim = 8;
  config.ffn = 173;
  config.vocab = 515;
  return config;
}

Split Make(const ModelConfig& config, int tp, int pp, int rank) {
  auto split = Split::Make(config, Layout{.tp = tp, .pp = pp}, rank);
  EXPECT_TRUE(split.ok()) << split.status();
  return *split;
}

TEST(SplitTest, RanksTileHeadsColumnsAndVocabulary) {
  for (int64_t heads : {1, 6, 8, 12, 32}) {
    const ModelConfig config = Config(heads, 1);
    for (int tp = 1; tp <= heads; ++tp) {
      int64_t head = 0, column = 0, row = 0;
      for (int r = 0; r < tp; ++r) {
        const Split split = Make(config, tp, 1, r);
        EXPECT_EQ(split.heads().begin, head);
        EXPECT_EQ(split.ffn().begin, column);
        EXPECT_EQ(split.vocab().begin, row);
        EXPECT_GE(split.heads().size(), 1) << "heads " << heads << " tp " << tp << " rank " << r;
        EXPECT_EQ(split.HeadBounds(1).back(), split.heads().size());
        EXPECT_EQ(split.FfnBounds().back(), split.ffn().size());
        head = split.heads().end;
        column = split.ffn().end;
        row = split.vocab().end;
        EXPECT_LE(split.vocab().size(), split.largest_vocab());
      }
      EXPECT_EQ(head, heads);
      EXPECT_EQ(column, config.ffn);
      EXPECT_EQ(row, config.vocab);
    }
  }
}

TEST(SplitTest, ChunksDependOnHeadsAloneUpToR) {
  EXPECT_EQ(Make(Config(8, 4), 3, 1, 0).n_chunks(), 8);
  EXPECT_EQ(Make(Config(12, 3), 1, 1, 0).n_chunks(), 8);
  EXPECT_EQ(Make(Config(12, 3), 8, 1, 0).n_chunks(), 8);
  EXPECT_EQ(Make(Config(12, 3), 11, 1, 0).n_chunks(), 11);  // above R: its own class of sums
  EXPECT_EQ(Make(Config(64, 8), 1, 1, 0).n_chunks(), 32);
}

TEST(SplitTest, ARankStoresTheKvHeadsItsQueriesRead) {
  // 8 query heads over 4 KV heads on 3 ranks: heads 0-1, 2-4, 5-7.
  EXPECT_EQ(Make(Config(8, 4), 3, 1, 0).kv_heads(), (Range{0, 1}));
  EXPECT_EQ(Make(Config(8, 4), 3, 1, 1).kv_heads(), (Range{1, 3}));
  EXPECT_EQ(Make(Config(8, 4), 3, 1, 2).kv_heads(), (Range{2, 4}));
  const HeadMap map = Make(Config(8, 4), 3, 1, 2).head_map();
  EXPECT_EQ(map.head_offset, 1);  // head 5 is the second of KV head 2
  EXPECT_EQ(map.n_kv_heads, 2);
}

TEST(SplitTest, GroupSumFinishesOneTree) {
  // 8 chunks on 3 ranks: 0-1 | 2-3, 4 | 5, 6-7.
  const GroupSum sum = Make(Config(8, 4), 3, 1, 0).group_sum();
  EXPECT_THAT(sum.n_parts, ElementsAre(1, 2, 2));
  EXPECT_THAT(sum.merges, ElementsAre(0, 1, 0, 1, 2));
}

TEST(SplitTest, ARankLeavesOnePartWhereTheBitsMayDifferBetweenDegrees) {
  for (int tp = 1; tp <= 8; ++tp) {
    for (int r = 0; r < tp; ++r) {
      const auto split = Split::Make(Config(8, 4), Layout{.tp = tp}, r, Reduction::kFast);
      ASSERT_TRUE(split.ok()) << split.status();
      EXPECT_EQ(split->n_chunks(), tp);
      EXPECT_THAT(split->group_sum().n_parts,
                  testing::AllOf(testing::SizeIs(tp), testing::Each(1)));
      EXPECT_THAT(split->merges(), ElementsAre(0));
      EXPECT_THAT(split->FfnBounds(), ElementsAre(0, split->ffn().size()));
    }
  }
}

TEST(SplitTest, StagesBalanceBytes) {
  EXPECT_THAT(BalanceStages(4, 2, 10, 0, 0), ElementsAre(Range{0, 2}, Range{2, 4}));
  // A heavy embedding and head leave their stages fewer layers.
  EXPECT_THAT(BalanceStages(6, 3, 10, 20, 20), ElementsAre(Range{0, 2}, Range{2, 5}, Range{5, 6}));
  EXPECT_THAT(BalanceStages(5, 5, 1, 100, 100),
              ElementsAre(Range{0, 1}, Range{1, 2}, Range{2, 3}, Range{3, 4}, Range{4, 5}));
}

TEST(SplitTest, RefusesDegreesTheModelDoesNotHave) {
  auto tp = Split::Make(Config(8, 4), Layout{.tp = 9}, 0);
  EXPECT_EQ(tp.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(tp.status()), "--tp 9: expected 1 to 8, the model's query heads");
  auto pp = Split::Make(Config(8, 4), Layout{.pp = 6}, 0);
  EXPECT_EQ(Message(pp.status()), "--pp 6: expected 1 to 5, the model's layers");
}

}  // namespace
}  // namespace trireme
