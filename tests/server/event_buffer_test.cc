#include "server/event_buffer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trireme {
namespace {

using testing::ElementsAre;

Delta Ids(int32_t offset, std::vector<int32_t> ids, const std::string& text) {
  return {.offset = offset, .ids = std::move(ids), .text = text};
}

TEST(EventBufferTest, MergesDeltasThatWait) {
  EventBuffer buffer;
  buffer.Push(Accepted{.id = "x"});
  buffer.Push(Ids(0, {1, 2}, "ab"));
  buffer.Push(Ids(2, {3}, "c"));
  buffer.Push(Ids(3, {}, "d"));
  buffer.Push(Finished{});
  EXPECT_EQ(std::get<Accepted>(*buffer.Pop()).id, "x");
  const Delta delta = std::get<Delta>(*buffer.Pop());
  EXPECT_EQ(delta.offset, 0);
  EXPECT_THAT(delta.ids, ElementsAre(1, 2, 3));
  EXPECT_EQ(delta.text, "abcd");
  EXPECT_TRUE(IsLast(*buffer.Pop()));
  EXPECT_FALSE(buffer.Pop().has_value());
}

TEST(EventBufferTest, LogprobsAreMergedWithTheirIds) {
  EventBuffer buffer;
  buffer.Push(Delta{.prompt_logprobs = {{.logprob = -9}}});
  buffer.Push(Delta{.ids = {1}, .logprobs = {{.logprob = -1}}});
  buffer.Push(Delta{.offset = 1, .ids = {2, 3}, .logprobs = {{.logprob = -2}, {.logprob = -3}}});
  const Delta delta = std::get<Delta>(*buffer.Pop());
  EXPECT_THAT(delta.ids, ElementsAre(1, 2, 3));
  ASSERT_EQ(delta.logprobs.size(), 3u);
  EXPECT_EQ(delta.logprobs[2].logprob, -3);
  ASSERT_EQ(delta.prompt_logprobs.size(), 1u);
  EXPECT_EQ(delta.prompt_logprobs[0].logprob, -9);
}

TEST(EventBufferTest, ADeltaWithoutIdsTakesTheOffsetOfTheNext) {
  EventBuffer buffer;
  buffer.Push(Ids(2, {}, "a"));
  buffer.Push(Ids(2, {7}, "b"));
  const Delta delta = std::get<Delta>(*buffer.Pop());
  EXPECT_EQ(delta.offset, 2);
  EXPECT_THAT(delta.ids, ElementsAre(7));
}

TEST(EventBufferTest, StaleWaitingsAreDropped) {
  EventBuffer buffer;
  buffer.Push(Ids(0, {1}, "a"));
  buffer.Push(Waiting{"one"});
  buffer.Push(Waiting{"two"});
  buffer.Push(Ids(1, {2}, "b"));
  buffer.Push(Waiting{"three"});
  EXPECT_THAT(std::get<Delta>(*buffer.Pop()).ids, ElementsAre(1, 2));
  EXPECT_EQ(std::get<Waiting>(*buffer.Pop()).reason, "three");
  EXPECT_FALSE(buffer.Pop().has_value());
}

TEST(EventBufferTest, ChoicesAreNotMixed) {
  EventBuffer buffer;
  buffer.Push(Delta{.choice = 0, .ids = {1}});
  buffer.Push(Delta{.choice = 1, .ids = {2}});
  buffer.Push(Delta{.choice = 0, .offset = 1, .ids = {3}});
  buffer.Push(Finished{.choice = 1, .last = false});
  buffer.Push(Delta{.choice = 0, .offset = 2, .ids = {4}});
  EXPECT_THAT(std::get<Delta>(*buffer.Pop()).ids, ElementsAre(1, 3, 4));
  EXPECT_THAT(std::get<Delta>(*buffer.Pop()).ids, ElementsAre(2));
  EXPECT_EQ(std::get<Finished>(*buffer.Pop()).choice, 1u);
  EXPECT_FALSE(buffer.Pop().has_value());
}

}  // namespace
}  // namespace trireme
