#include "launcher/launch_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(LaunchCommand, Mpirun) {
  const LaunchCommand command = MakeLaunchCommand(Launch::kMpirun, 4, {"--mca", "btl", "self,tcp"},
                                                  {"/bin/trireme", "worker"});
  EXPECT_EQ(
      Join(command.argv, " "),
      "mpirun -n 4 --bind-to none --mca odls_base_sigkill_timeout 0 -x TRIREME_REPLICA_SECRET "
      "--oversubscribe --mca btl self,tcp /bin/trireme worker");
}

TEST(LaunchCommand, WhereTheUserNamesHostsTheirSlotsCount) {
  const LaunchCommand command = MakeLaunchCommand(Launch::kMpirun, 4, {"-H", "a:2,b:2"}, {"w"});
  EXPECT_THAT(Join(command.argv, " "), Not(HasSubstr("--oversubscribe")));
}

TEST(LaunchCommand, Srun) {
  const LaunchCommand command = MakeLaunchCommand(Launch::kSrun, 8, {"-N2"}, {"trireme", "worker"});
  EXPECT_EQ(Join(command.argv, " "),
            "srun --ntasks=8 --mpi=pmix --kill-on-bad-exit=1 -N2 trireme worker");
}

TEST(LaunchCommand, UnknownLauncher) {
  EXPECT_EQ(Message(ParseLaunch("ssh").status()), "--launch ssh: expected mpirun, srun or none");
}

TEST(JoinArguments, QuotesWhatAShellWouldChange) {
  EXPECT_EQ(JoinArguments({"/bin/x", "--a=1,2", "h:80"}), "/bin/x --a=1,2 h:80");
  const std::vector<std::string> arguments = {"",  "two words", "it's", "$HOME",
                                              "*", "a\\b",      "\"q\""};
  EXPECT_EQ(SplitArguments(JoinArguments(arguments)).value(), arguments);
}

TEST(SplitArguments, AsAShell) {
  EXPECT_THAT(SplitArguments(R"(  -H a:1,b:1  --mca x 'two words' "q\"t"'' b\ c )").value(),
              ElementsAre("-H", "a:1,b:1", "--mca", "x", "two words", "q\"t", "b c"));
  EXPECT_THAT(SplitArguments("").value(), ElementsAre());
  EXPECT_THAT(SplitArguments("''").value(), ElementsAre(""));
  EXPECT_EQ(Message(SplitArguments("a 'b").status()), "an open quote in: a 'b");
}

// What is shown of `lines`, and the failure they tell.
std::pair<std::string, std::string> Notes(const std::vector<std::string>& lines) {
  FailureNotes notes;
  std::vector<std::string> shown;
  for (const std::string& line : lines) {
    for (const std::string& l : notes.Add(line)) shown.push_back(l);
  }
  return {Join(shown, "\n"), notes.failure().value_or("")};
}

const std::string kRule(74, '-');

TEST(FailureNotes, KilledRank) {
  const auto [shown, failure] = Notes(
      {"ready", kRule, "Primary job  terminated normally, but 1 process returned",
       "a non-zero exit code. Per user-direction, the job has been aborted.", kRule, kRule,
       "mpirun noticed that process rank 1 with PID 0 on node vm exited on signal 9 (Killed).",
       kRule, "after"});
  EXPECT_EQ(shown, "ready\nafter");
  EXPECT_EQ(failure,
            "rank 1 on vm was killed by signal 9 (Killed), which is what the kernel does where "
            "memory runs out (see dmesg on vm)");
}

TEST(FailureNotes, ExitCode) {
  const auto [shown, failure] =
      Notes({kRule,
             "mpirun detected that one or more processes exited with non-zero status, thus causing",
             "the job to be terminated. The first process to do so was:", "",
             "  Process name: [[20282,1],3]", "  Exit code:    7", kRule});
  EXPECT_EQ(shown, "");
  EXPECT_EQ(failure, "rank 3 exited with code 7");
}

TEST(FailureNotes, WhatARankSaysItselfTellsMore) {
  const auto [shown, failure] =
      Notes({"rank 2 on vm: no plan for 30 s from rank 0", kRule,
             "MPI_ABORT was invoked on rank 2 in communicator MPI_COMM_WORLD", "with errorcode 1.",
             kRule});
  EXPECT_EQ(shown, "");
  EXPECT_EQ(failure, "rank 2 on vm: no plan for 30 s from rank 0");
}

TEST(FailureNotes, AnUnknownNoticeIsShown) {
  const std::string text = "There are not enough slots available in the system";
  EXPECT_EQ(Notes({kRule, text, kRule}).first, kRule + "\n" + text + "\n" + kRule);
}

TEST(FailureNotes, TheProgramsOwnLastWord) {
  const auto [shown, failure] = Notes({"trireme: DIR: no weights", "trireme: and more"});
  EXPECT_EQ(shown, "");
  EXPECT_EQ(failure, "DIR: no weights");
}

TEST(CpuShare, ContiguousAndDisjoint) {
  EXPECT_THAT(CpuShare({0, 2, 4, 6, 8}, 0, 2), ElementsAre(0, 2));
  EXPECT_THAT(CpuShare({0, 2, 4, 6, 8}, 1, 2), ElementsAre(4, 6, 8));
  EXPECT_THAT(CpuShare({0, 1}, 2, 3), ElementsAre());
}

TEST(FailureNotes, Slurm) {
  EXPECT_EQ(Notes({"srun: error: node7: task 5: Killed"}).second, "rank 5 on node7 ended: Killed");
}

TEST(ReadFailure, FindsRankHostCauseAndPlan) {
  const Failure crash = ReadFailure("rank 12 on node7: SIGSEGV (plan 40: sequences 3, tokens 17)");
  EXPECT_EQ(crash.rank, 12);
  EXPECT_EQ(crash.host, "node7");
  EXPECT_EQ(crash.cause, "SIGSEGV");
  EXPECT_EQ(crash.plan, 40);
  EXPECT_EQ(crash.n_sequences, 3);
  EXPECT_EQ(crash.n_tokens, 17);
  const Failure idle = ReadFailure("rank 1 on a: SIGSEGV (after plan 7: sequences 1, tokens 2)");
  EXPECT_EQ(idle.cause, "SIGSEGV");
  EXPECT_EQ(idle.plan, 7);
  const Failure killed = ReadFailure("rank 0 on a was killed by signal 9 (Killed)");
  EXPECT_EQ(killed.rank, 0);
  EXPECT_EQ(killed.host, "a");
  EXPECT_EQ(killed.cause, "was killed by signal 9 (Killed)");
  EXPECT_EQ(killed.plan, -1);
  const Failure other = ReadFailure("nothing heard for 2 s");
  EXPECT_EQ(other.rank, -1);
  EXPECT_EQ(other.cause, "nothing heard for 2 s");
}

}  // namespace
}  // namespace trireme
