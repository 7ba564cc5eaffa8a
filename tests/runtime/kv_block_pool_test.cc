#include "runtime/kv_block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(KvBlockPoolTest, CountsReferences) {
  KvBlockPool pool(2, 4);
  const int32_t a = pool.Allocate(), b = pool.Allocate();
  EXPECT_EQ(pool.Allocate(), -1);
  pool.Retain(std::vector{a});
  pool.Release(std::vector{a, b});
  EXPECT_EQ(pool.n_used(), 1);
  EXPECT_EQ(pool.references(a), 1);
  pool.Release(std::vector{a});
  EXPECT_EQ(pool.n_free(), 2);
}

TEST(KvBlockPoolTest, FindsTheLongestPrefixOfFullBlocks) {
  KvBlockPool pool(8, 2);
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5};
  const int32_t a = pool.Allocate(), b = pool.Allocate();
  auto chain = pool.Insert("", 0, std::span(ids).subspan(0, 2), a);
  pool.Insert("", chain, std::span(ids).subspan(2, 2), b);

  EXPECT_THAT(pool.Acquire("", ids, 10).blocks, ElementsAre(a, b));
  EXPECT_THAT(pool.Acquire("", ids, 1).blocks, ElementsAre(a));
  EXPECT_THAT(pool.Acquire("", std::vector{1, 2, 3, 9}, 10).blocks, ElementsAre(a));
  EXPECT_THAT(pool.Acquire("", std::vector{3, 4}, 10).blocks, IsEmpty());
  EXPECT_THAT(pool.Acquire("salt", ids, 10).blocks, IsEmpty());
  EXPECT_EQ(pool.references(a), 4);
  EXPECT_EQ(pool.references(b), 2);
}

TEST(KvBlockPoolTest, EvictsTheLeastRecentlyUsedLeafFirst) {
  KvBlockPool pool(3, 1);
  const int32_t a = pool.Allocate(), b = pool.Allocate(), c = pool.Allocate();
  const auto chain = pool.Insert("", 0, std::vector{1}, a);
  pool.Insert("", chain, std::vector{2}, b);
  pool.Insert("", 0, std::vector{7}, c);
  pool.Release(std::vector{c});
  pool.Release(std::vector{a, b});
  EXPECT_EQ(pool.n_cached(), 3);
  EXPECT_EQ(pool.Allocate(), c);  // oldest
  EXPECT_EQ(pool.Allocate(), b);  // before the block that it extends
  EXPECT_THAT(pool.Acquire("", std::vector{1, 2}, 9).blocks, ElementsAre(a));
}

TEST(KvBlockPoolTest, APrefixUsedAgainOutlivesAnOlderOne) {
  KvBlockPool pool(2, 1);
  const int32_t a = pool.Allocate(), b = pool.Allocate();
  pool.Insert("", 0, std::vector{1}, a);
  pool.Insert("", 0, std::vector{2}, b);
  pool.Release(std::vector{a});
  pool.Release(std::vector{b});
  pool.Release(pool.Acquire("", std::vector{1}, 1).blocks);
  EXPECT_EQ(pool.Allocate(), b);
  EXPECT_THAT(pool.Acquire("", std::vector{1}, 1).blocks, ElementsAre(a));
}

TEST(KvBlockPoolTest, AnEqualBlockIsKeptOnce) {
  KvBlockPool pool(2, 1);
  const int32_t a = pool.Allocate(), b = pool.Allocate();
  EXPECT_EQ(pool.Insert("", 0, std::vector{1}, a), pool.Insert("", 0, std::vector{1}, b));
  pool.Release(std::vector{a});
  pool.Release(std::vector{b});
  EXPECT_EQ(pool.n_cached(), 1);
  EXPECT_EQ(pool.n_free(), 2);
}

// Random use against the definition: a match is right iff it was inserted and not evicted, counts
// add up, nothing leaks.
TEST(KvBlockPoolTest, RandomUseLeaksNothing) {
  std::mt19937 random(1);
  auto draw = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  KvBlockPool pool(20, 2);
  std::vector<std::vector<int32_t>> content(20);  // ids that a block stands for, whole prefix
  std::vector<std::vector<int32_t>> held;
  for (int step = 0; step < 20000; ++step) {
    if (!held.empty() && draw(3) == 0) {
      const int i = draw(static_cast<int>(held.size()));
      pool.Release(held[i]);
      held.erase(held.begin() + i);
      continue;
    }
    std::vector<int32_t> ids(2 * (1 + draw(5)));
    for (int32_t& id : ids) id = draw(2);
    auto match = pool.Acquire("", ids, 99);
    std::vector<int32_t> blocks = match.blocks;
    for (size_t i = 0; i < blocks.size(); ++i) {
      ASSERT_EQ(content[blocks[i]], std::vector(ids.begin(), ids.begin() + 2 * (i + 1)));
    }
    auto chain = match.chain;
    while (blocks.size() * 2 < ids.size()) {
      const int32_t block = pool.Allocate();
      if (block < 0) break;
      const size_t n = blocks.size() * 2;
      content[block].assign(ids.begin(), ids.begin() + n + 2);
      chain = pool.Insert("", chain, std::span(ids).subspan(n, 2), block);
      blocks.push_back(block);
    }
    held.push_back(blocks);
    std::set<int32_t> distinct;
    for (const auto& sequence : held) distinct.insert(sequence.begin(), sequence.end());
    ASSERT_EQ(pool.n_used(), static_cast<int64_t>(distinct.size()));
  }
  for (const auto& sequence : held) pool.Release(sequence);
  EXPECT_EQ(pool.n_used(), 0);
  EXPECT_EQ(pool.n_free(), 20);
}

}  // namespace
}  // namespace trireme
