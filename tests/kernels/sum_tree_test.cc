#include "kernels/sum_tree.h"

#include <gtest/gtest.h>

#include <bit>
#include <string>

namespace trireme {
namespace {

// The expression that `merges` evaluates, with leaf names.
std::vector<std::string> Evaluate(const std::vector<std::string>& leaves,
                                  const std::vector<uint8_t>& merges) {
  std::vector<std::string> stack;
  for (size_t i = 0; i < leaves.size(); ++i) {
    stack.push_back(leaves[i]);
    for (int m = 0; m < merges[i]; ++m) {
      const std::string top = stack.back();
      stack.pop_back();
      stack.back() = "(" + stack.back() + "+" + top + ")";
    }
  }
  return stack;
}
std::vector<std::string> Leaves(ChunkRange range) {
  std::vector<std::string> leaves;
  for (int i = range.begin; i < range.end; ++i) leaves.push_back(std::to_string(i));
  return leaves;
}

TEST(SumTree, LeftChildIsTheLargestPowerOfTwo) {
  EXPECT_EQ(Evaluate(Leaves({0, 1}), SumTree(1).Merges({0, 1})), std::vector<std::string>{"0"});
  EXPECT_EQ(Evaluate(Leaves({0, 4}), SumTree(4).Merges({0, 4})),
            std::vector<std::string>{"((0+1)+(2+3))"});
  EXPECT_EQ(Evaluate(Leaves({0, 6}), SumTree(6).Merges({0, 6})),
            std::vector<std::string>{"(((0+1)+(2+3))+(4+5))"});
  EXPECT_EQ(Evaluate(Leaves({0, 7}), SumTree(7).Merges({0, 7})),
            std::vector<std::string>{"(((0+1)+(2+3))+((4+5)+6))"});
}

TEST(SumTree, CoverIsTheMaximalCompleteSubtrees) {
  const SumTree tree(8);
  EXPECT_EQ(tree.Cover({0, 8}), (std::vector<ChunkRange>{{0, 8}}));
  EXPECT_EQ(tree.Cover({0, 3}), (std::vector<ChunkRange>{{0, 2}, {2, 3}}));
  EXPECT_EQ(tree.Cover({3, 8}), (std::vector<ChunkRange>{{3, 4}, {4, 8}}));
  EXPECT_EQ(tree.Cover({1, 7}), (std::vector<ChunkRange>{{1, 2}, {2, 4}, {4, 6}, {6, 7}}));
  EXPECT_TRUE(tree.Cover({5, 5}).empty());
  EXPECT_EQ(SumTree(6).Cover({4, 6}), (std::vector<ChunkRange>{{4, 6}}));
}

// Every cut into up to three ranks performs the additions of the whole tree.
TEST(SumTree, EveryCutPerformsTheSameAdditions) {
  for (int n = 1; n <= 33; ++n) {
    const SumTree tree(n);
    const auto whole = Evaluate(Leaves({0, n}), tree.Merges({0, n}));
    ASSERT_EQ(whole.size(), 1u);
    for (int a = 0; a <= n; ++a) {
      for (int b = a; b <= n; ++b) {
        std::vector<std::string> parts;
        std::vector<ChunkRange> covers;
        for (const ChunkRange rank : {ChunkRange{0, a}, ChunkRange{a, b}, ChunkRange{b, n}}) {
          const auto sums = Evaluate(Leaves(rank), tree.Merges(rank));
          const auto cover = tree.Cover(rank);
          ASSERT_EQ(sums.size(), cover.size());
          parts.insert(parts.end(), sums.begin(), sums.end());
          covers.insert(covers.end(), cover.begin(), cover.end());
        }
        ASSERT_EQ(Evaluate(parts, tree.Finish(covers)), whole) << n << ": " << a << ", " << b;
      }
    }
  }
}

TEST(SumTree, StackStaysShallow) {
  const SumTree tree(1 << (kMaxSumDepth - 1));
  int depth = 0;
  for (const uint8_t merges : tree.Merges({0, tree.n_chunks()})) {
    EXPECT_LE(++depth, kMaxSumDepth);
    depth -= merges;
  }
  EXPECT_EQ(depth, 1);
}

}  // namespace
}  // namespace trireme
