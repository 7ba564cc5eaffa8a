// Plans down, results up, and the calls at the start of a job.
#include "comm/world.h"

#include <cstring>
#include <thread>

#include "gtest/gtest.h"
#include "tests/comm/ranks.h"

namespace trireme {
namespace {

class WorldTest : public testing::TestWithParam<Ranks> {};
INSTANTIATE_TEST_SUITE_P(Ranks, WorldTest, testing::ValuesIn(AllRanks()),
                         [](const auto& info) { return RanksName(info.param); });

// A message whose bytes tell which one it is.
std::vector<std::byte> Message(int from, int number, size_t bytes) {
  std::vector<std::byte> message(bytes, static_cast<std::byte>(from * 37 + number * 101));
  for (size_t i = 0; i < bytes; i += 97) message[i] = static_cast<std::byte>(i / 97);
  return message;
}

// Rank 0's next report, wherever it comes from.
std::vector<std::byte> AwaitReport(World& world) {
  const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  for (;;) {
    if (auto report = world.PollReport()) return *report;
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "no report";
      return {};
    }
    world.Wait(deadline, true);
  }
}

TEST_P(WorldTest, RanksKnowTheirPlaces) {
  RunOnRanks(GetParam(), [&](World& world) {
    EXPECT_EQ(world.size(), GetParam().n);
    EXPECT_LT(world.local_rank(), world.local_size());
    EXPECT_FALSE(world.host().empty());
  });
}

TEST_P(WorldTest, ExchangeGivesEveryRanksTextByRank) {
  RunOnRanks(GetParam(), [](World& world) {
    for (int round = 0; round < 20; ++round) {
      const auto text = [&](int rank) {
        return std::string(static_cast<size_t>(rank * 100 + round), 'a' + static_cast<char>(rank));
      };
      const std::vector<std::string> all = world.Exchange(text(world.rank()));
      ASSERT_EQ(static_cast<int>(all.size()), world.size());
      for (int rank = 0; rank < world.size(); ++rank) {
        EXPECT_EQ(all[static_cast<size_t>(rank)], text(rank));
      }
    }
  });
}

TEST_P(WorldTest, PlansArriveInOrderAndReportsPerSender) {
  constexpr int kMessages = 400;
  // Together more than the rings hold, so that they wrap around.
  const auto plan_bytes = [](int i) { return static_cast<size_t>(i % 50 == 0 ? 700000 : i * 31); };
  const auto report_of = [](int rank, int i) {
    auto report = Message(rank, i, static_cast<size_t>(i % 40 == 0 ? 200000 : i * 17));
    report.push_back(static_cast<std::byte>(rank));
    return report;
  };
  RunOnRanks(GetParam(), [&](World& world) {
    if (world.rank() == 0) {
      std::vector<int> next(static_cast<size_t>(world.size()), 0);
      for (int i = 0; i < kMessages; ++i) {
        world.Publish(Message(0, i, plan_bytes(i)));
        world.Report(report_of(0, i));
      }
      for (int i = 0; i < kMessages * world.size(); ++i) {
        const std::vector<std::byte> report = AwaitReport(world);
        const size_t from = static_cast<size_t>(report.back());
        ASSERT_LT(from, next.size());
        EXPECT_EQ(report, report_of(static_cast<int>(from), next[from]));
        ++next[from];
      }
      EXPECT_FALSE(world.PollReport().has_value());
    } else {
      // Plans are taken in order, whether they are waited for or asked for.
      for (int i = 0; i < kMessages; ++i) {
        std::optional<std::vector<std::byte>> plan;
        while (i % 2 == 1 && !plan) plan = world.PollPublished();
        if (!plan) plan = world.NextPublished();
        ASSERT_EQ(*plan, Message(0, i, plan_bytes(i))) << "plan " << i;
        world.Report(report_of(world.rank(), i));
      }
    }
  });
}

TEST_P(WorldTest, MessagesLargerThanTheRingsPass) {
  constexpr size_t kBytes = size_t{5} << 20;
  RunOnRanks(GetParam(), [&](World& world) {
    if (world.rank() == 0) {
      world.Publish(Message(0, 1, kBytes));
      for (int i = 1; i < world.size(); ++i) EXPECT_EQ(AwaitReport(world).size(), kBytes);
      world.Publish({});
    } else {
      const auto plan = world.NextPublished();
      EXPECT_EQ(plan, Message(0, 1, kBytes));
      world.Report(plan);
      EXPECT_TRUE(world.NextPublished().empty());
    }
  });
}

TEST_P(WorldTest, WaitEndsAtItsDeadlineAndWhenWoken) {
  RunOnRanks(GetParam(), [](World& world) {
    if (world.rank() != 0) return;
    world.Wait(std::chrono::steady_clock::now() + std::chrono::milliseconds(1), false);
    world.Wake();  // is not lost
    world.Wait(kNoDeadline, false);
    for (int i = 0; i < 20; ++i) {
      std::thread other([&] { world.Wake(); });
      world.Wait(kNoDeadline, i % 2 == 0);
      other.join();
    }
    world.Report(Message(0, 0, 10));
    world.Wait(kNoDeadline, false);
    EXPECT_TRUE(world.PollReport().has_value());
  });
}

}  // namespace
}  // namespace trireme
