// The controller around a replica of its own process: threads, no sockets.
#include "server/local_controller.h"

#include <atomic>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/collector.h"
#include "tests/server/fake_replica.h"

namespace trireme {
namespace {

using test::Collector;
using test::FakeReplica;
using test::Ids;
using testing::HasSubstr;

GenerateRequest Request(const std::string& text, int32_t max_tokens) {
  GenerateRequest request;
  request.text = text;
  request.max_tokens = max_tokens;
  request.seed = 3;
  request.ignore_eos = true;
  return request;
}

std::vector<int32_t> Expected(const GenerateRequest& request) {
  SequenceRequest sequence;
  sequence.prompt_ids = Ids(*request.text);
  sequence.sampling.seed = *request.seed;
  sequence.max_tokens = *request.max_tokens;
  return test::Undisturbed(sequence);
}

TEST(LocalControllerTest, GeneratesFromText) {
  FakeReplica replica;
  auto controller = LocalController::Start(replica);
  ASSERT_TRUE(controller.ok()) << controller.status();
  Collector client;
  (*controller)->Generate(Request("once upon", 20), client.callback());
  const auto log = client.WaitEnd();
  EXPECT_EQ(log.ids, Expected(Request("once upon", 20)));
  EXPECT_EQ(log.finished->usage.prompt_tokens, 9);
}

TEST(LocalControllerTest, LongTextsHoldUpNoShortOne) {
  constexpr int kLong = 8;
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += "once upon ";
  FakeReplica replica;
  auto controller = LocalController::Start(replica, {.tokenizer_threads = 1});
  std::atomic<int> n_ended = 0;
  int n_before = -1;
  std::vector<Collector> long_ones(kLong);
  for (Collector& client : long_ones) {
    (*controller)->Generate(Request(text, 1), [&, tell = client.callback()](Event&& event) {
      n_ended += IsLast(event);
      tell(std::move(event));
    });
  }
  Collector short_one;
  (*controller)->Generate(Request("once", 1), [&, tell = short_one.callback()](Event&& event) {
    if (n_before < 0) n_before = n_ended;
    tell(std::move(event));
  });
  short_one.WaitEnd();
  for (Collector& client : long_ones) {
    EXPECT_THAT(Message(*client.WaitEnd().error), HasSubstr("leaves no room"));
  }
  EXPECT_LT(n_before, kLong / 2);
}

TEST(LocalControllerTest, RefusesTextOutsideTheVocabulary) {
  FakeReplica replica;
  auto controller = LocalController::Start(replica);
  Collector client;
  (*controller)->Generate(Request("ONCE", 20), client.callback());
  const auto log = client.WaitEnd();
  EXPECT_EQ(log.error->code(), absl::StatusCode::kInvalidArgument);
}

TEST(LocalControllerTest, RefusesTextWithoutATokenizer) {
  auto info = test::Info();
  info.tokenizer_json.clear();
  FakeReplica replica(info);
  auto controller = LocalController::Start(replica);
  Collector with_text, with_ids;
  auto request = Request("once", 5);
  (*controller)->Generate(request, with_text.callback());
  EXPECT_EQ(with_text.WaitEnd().error->code(), absl::StatusCode::kFailedPrecondition);
  request.text.reset();
  request.ids = Ids("once");
  (*controller)->Generate(request, with_ids.callback());
  const auto log = with_ids.WaitEnd();
  EXPECT_EQ(log.ids, Expected(Request("once", 5)));
  EXPECT_EQ(log.text, "");
}

TEST(LocalControllerTest, CancelReachesTheReplica) {
  FakeReplica replica(test::Info(), /*steps=*/3);
  auto controller = LocalController::Start(replica);
  Collector client;
  const uint64_t key = (*controller)->Generate(Request("a", 50), client.callback());
  EXPECT_EQ(client.WaitIds(3).ids.size(), 3u);
  (*controller)->Cancel(key);
  EXPECT_EQ(client.WaitEnd().error->code(), absl::StatusCode::kCancelled);
  replica.WaitCancelled(1);
  replica.WaitIdle();
}

TEST(LocalControllerTest, ACancelledTextIsNotGenerated) {
  FakeReplica replica(test::Info(), /*steps=*/0);
  auto controller = LocalController::Start(replica);
  Collector client;
  (*controller)->Cancel((*controller)->Generate(Request("a", 50), client.callback()));
  EXPECT_EQ(client.WaitEnd().error->code(), absl::StatusCode::kCancelled);
}

TEST(LocalControllerTest, TheReplicaIsQuietAfterwards) {
  FakeReplica replica(test::Info(), /*steps=*/2);
  Collector client;
  {
    auto controller = LocalController::Start(replica);
    (*controller)->Generate(Request("a", 50), client.callback());
    client.WaitIds(2);
  }
  replica.WaitIdle();
  replica.LetSteps(FakeReplica::kAny);
}

TEST(LocalControllerTest, SaysWhyAReplicaCannotBeLinked) {
  auto info = test::Info();
  info.tokenizer_json = "{}";
  FakeReplica replica(info);
  auto controller = LocalController::Start(replica);
  EXPECT_THAT(Message(controller.status()), HasSubstr("tokenizer.json of tiny"));
}

TEST(LocalControllerTest, ManyAtOnce) {
  FakeReplica replica;
  auto controller = LocalController::Start(replica);
  std::vector<Collector> clients(40);
  for (int i = 0; i < 40; ++i) {
    auto request = Request("abc", 1 + i % 20);
    request.seed = i;
    (*controller)->Generate(request, clients[i].callback());
  }
  for (int i = 0; i < 40; ++i) {
    auto request = Request("abc", 1 + i % 20);
    request.seed = i;
    EXPECT_EQ(clients[i].WaitEnd().ids, Expected(request));
  }
}

}  // namespace
}  // namespace trireme
