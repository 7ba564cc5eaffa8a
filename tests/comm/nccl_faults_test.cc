// A collective that does not end, or fails, ends the job: one line names rank, host and collective.
#include "comm/end_job.h"
#include "gmock/gmock.h"
#include "tests/comm/mpirun.h"

namespace trireme {
namespace {

using testing::HasSubstr;

Outcome RunNccl(const std::string& what, const std::string& fault = "") {
  const std::string environment = "TRIREME_EMULATED_DEVICES=2 TRIREME_EMULATED_NCCL=" + fault;
  return RunRanks(2, NCCL_RANK_BINARY " " + what, environment);
}

void ExpectEnd(const Outcome& outcome, const std::string& line, int most_ranks) {
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_NE(outcome.exit_code, 124) << "hung";
  EXPECT_THAT(outcome.output, HasSubstr(line));
  const int lines = outcome.LinesWith("enqueued last: ");
  EXPECT_GE(lines, 1) << outcome.output;
  EXPECT_LE(lines, most_ranks) << outcome.output;
}

std::string Line(int rank, const std::string& what) {
  return StrCat("rank ", rank, " on ", HostName(), ": ", what);
}

TEST(NcclFaultsTest, RanksThatAgreeEnd) { EXPECT_EQ(RunNccl("all").exit_code, 0); }

TEST(NcclFaultsTest, AnAbsentPeerEndsTheJobAtTheDeadline) {
  ExpectEnd(RunNccl("absent"),
            Line(0,
                 "CUDA: the device: not done after 2000 ms; enqueued last: AllReduce 3 of ranks "
                 "0,1\n"),
            1);
}

TEST(NcclFaultsTest, ACollectiveThatHangsEndsTheJobAtTheDeadline) {
  const Outcome outcome = RunNccl("all", "hang:1:5");
  ExpectEnd(outcome, "not done after 2000 ms; enqueued last: AllReduce 5 of ranks 0,1\n", 2);
}

TEST(NcclFaultsTest, AnAsynchronousErrorEndsTheJobAtOnce) {
  const Outcome outcome = RunNccl("all", "error:1:4");
  ExpectEnd(outcome,
            Line(1, "NCCL: unhandled system error; enqueued last: AllReduce 4 of ranks 0,1\n"), 2);
}

TEST(NcclFaultsTest, RanksThatCallDifferentlyEndTheJob) {
  ExpectEnd(RunNccl("mismatch"), "NCCL: invalid usage; enqueued last: AllReduce 3 of ranks 0,1\n",
            2);
}

TEST(NcclFaultsTest, APeerThatEndsEndsTheJob) {
  const Outcome outcome = RunNccl("exit");
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_NE(outcome.exit_code, 124) << "hung";
}

}  // namespace
}  // namespace trireme
