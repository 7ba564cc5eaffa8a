// A peer that does not come ends the job with one line.
#include <stdio.h>

#include <string>
#include <thread>

#include "comm/launch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/comm/mpirun.h"
#include "tests/comm/ranks.h"

namespace trireme {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

WorldOptions Impatient() {
  WorldOptions options;
  options.timeout = options.stage_timeout = std::chrono::milliseconds(50);
  options.max_parts_bytes = 1 << 16;
  options.max_tensor_bytes = 1 << 16;
  return options;
}

// Rank 1 of two threads stays away; rank 0 calls `call`.
void CallAlone(const std::function<void(Communicator&)>& call) {
  const auto worlds = MakeThreadWorlds(2);
  const auto ops = MakeSumOps();
  std::vector<std::unique_ptr<Communicator>> comms;
  const std::vector<int> both = {0, 1};
  for (const auto& world : worlds) {
    world->Reserve(Impatient());
    comms.push_back(world->Group(both, *ops));
  }
  call(*comms[0]);
}

TEST(LostPeerTest, AllReduceEndsTheJob) {
  EXPECT_DEATH(CallAlone([](Communicator& comm) {
                 float y = 0;
                 comm.AllReduce(Tensor(&y, DType::kF32, {1, 1}), comm.Parts(1, 1, 1),
                                {{1, 1}, {0, 1}}, nullptr);
               }),
               "^rank 0 on .*: AllReduce of ranks 0,1: rank 1 did not come \\(waited 50 ms\\)");
}

TEST(LostPeerTest, RecvEndsTheJob) {
  EXPECT_DEATH(CallAlone([](Communicator& comm) {
                 float x = 0;
                 comm.Recv(Tensor(&x, DType::kF32, {1, 1}), 1);
               }),
               "^rank 0 on .*: Recv: nothing from rank 1 \\(waited 50 ms\\)");
}

TEST(LostPeerTest, SendEndsTheJobOnceTheSlotsAreFull) {
  EXPECT_DEATH(CallAlone([](Communicator& comm) {
                 float x = 0;
                 for (int i = 0; i < 4; ++i) comm.Send(Tensor(&x, DType::kF32, {1, 1}), 1);
                 fprintf(stderr, "four sent\n");
                 comm.Send(Tensor(&x, DType::kF32, {1, 1}), 1);
               }),
               "^four sent\nrank 0 on .*: Send: rank 1 takes nothing \\(waited 50 ms\\)");
}

TEST(LostPeerTest, PublishEndsTheJobOnceTheRingIsFull) {
  const auto publish = [] {
    const auto worlds = MakeThreadWorlds(2);
    worlds[0]->Reserve(Impatient());
    for (;;) worlds[0]->Publish(std::vector<std::byte>(1 << 20));
  };
  EXPECT_DEATH(publish(), "^rank 0 on .*: Publish: a rank of this host reads nothing");
}

Outcome RunComm(int n, const std::string& arguments) {
  return RunRanks(n, COMM_RANK_BINARY " " + arguments);
}

TEST(MpiLostPeerTest, ARankThatExitsEndsTheJob) {
  const Outcome outcome = RunComm(3, "exit");
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_NE(outcome.exit_code, 124) << "hung";
}

TEST(MpiLostPeerTest, ARankThatStallsEndsTheJobWithOneLine) {
  for (const char* way : {"shared", "mpi"}) {
    const Outcome outcome = RunComm(2, StrCat("stall ", way));
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_NE(outcome.exit_code, 124) << "hung";
    EXPECT_THAT(outcome.output, ContainsRegex("rank 0 on .*: AllReduce.* rank 1.*waited 200 ms"));
    EXPECT_EQ(outcome.LinesWith("waited 200 ms"), 1) << outcome.output;
  }
}

TEST(MpiLostPeerTest, RanksThatMpiDoesNotSeeAreRefused) {
  const Outcome outcome = RunComm(1, "count");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("started 8 ranks but MPI sees 1"));
}

}  // namespace
}  // namespace trireme
