#include "launcher/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <future>
#include <mutex>

#include "tests/launcher/processes.h"

namespace trireme {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

TEST(RestartPolicy, AtOnceThenTwiceAsLongUpToTheMost) {
  RestartPolicy policy({milliseconds(500), milliseconds(3000), milliseconds(10000)});
  std::vector<int64_t> waits;
  for (int i = 0; i < 6; i++) waits.push_back(policy.AfterRun({}).count());
  EXPECT_THAT(waits, ElementsAre(0, 500, 1000, 2000, 3000, 3000));
  for (int i = 0; i < 2; i++) EXPECT_EQ(policy.AfterRun(milliseconds(9999)).count(), 2000);
}

TEST(RestartPolicy, AGoodRunForgetsTheFailuresBeforeIt) {
  RestartPolicy policy({milliseconds(500), milliseconds(3000), milliseconds(10000)});
  for (int i = 0; i < 5; i++) policy.AfterRun({});
  EXPECT_EQ(policy.AfterRun(milliseconds(10000)).count(), 0);
  EXPECT_EQ(policy.AfterRun({}).count(), 500);
}

TEST(RestartPolicy, HasFailedWhenRunAfterRunWasNeverLinked) {
  RestartPolicy policy({.failed_after = 3});
  for (int i = 0; i < 9; i++) policy.AfterRun(milliseconds(1));
  EXPECT_FALSE(policy.failed());
  policy.AfterRun({});
  policy.AfterRun({});
  EXPECT_FALSE(policy.failed());
  policy.AfterRun({});
  EXPECT_TRUE(policy.failed());
  policy.AfterRun(milliseconds(1));
  EXPECT_FALSE(policy.failed());
}

SupervisorOptions Options(const std::string& script) {
  SupervisorOptions options;
  options.command = [script](int) { return LaunchCommand{{"sh", "-c", script}, {}}; };
  options.restart = {milliseconds(1), milliseconds(4), milliseconds(10000)};
  options.on_line = [](int, const std::string&) {};
  return options;
}

TEST(Supervisor, StartsAgainWhatEnds) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  Supervisor supervisor(Options("echo $$ >" + pids.path() + "; exit 3"));
  ASSERT_TRUE(supervisor.Start().ok());
  supervisor.Linked(0, 1);
  const pid_t first = pids.Next();
  for (int i = 0; i < 4; i++) EXPECT_NE(pids.Next(), first);
}

TEST(Supervisor, AReplicaThatNeverWasReadyAndGivesUpIsNotStartedAgain) {
  std::promise<std::pair<int, std::string>> why;
  SupervisorOptions options = Options("echo starting; echo 'trireme: no such model' >&2; exit 1");
  options.on_hopeless = [&](int replica, const std::string& line) {
    why.set_value({replica, line});
  };
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  // A second call would throw.
  EXPECT_EQ(why.get_future().get(), std::pair(0, std::string("no such model")));
}

TEST(Supervisor, OneThatGivesUpWhileOthersStartIsStartedAgain) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  SupervisorOptions options = Options("");
  options.n_replicas = 2;
  options.command = [&](int replica) {
    return LaunchCommand{
        {"sh", "-c", replica == 0 ? "echo $$ >" + pids.path() + "; exit 1" : "sleep 1000"}, {}};
  };
  options.on_hopeless = [](int, const std::string& line) { ADD_FAILURE() << line; };
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  const pid_t first = pids.Next();
  EXPECT_NE(pids.Next(), first);
}

TEST(Supervisor, AReplicaThatIsKilledBeforeItWasReadyIsStartedAgain) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  SupervisorOptions options = Options("echo $$ >" + pids.path() + "; kill -9 $$");
  options.on_hopeless = [](int, const std::string& line) { ADD_FAILURE() << line; };
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  const pid_t first = pids.Next();
  EXPECT_NE(pids.Next(), first);
}

TEST(Supervisor, AReplicaThatIsNotReadyInTimeIsEndedAndStartedAgain) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  SupervisorOptions options =
      Options("trap '' TERM; echo $$ >" + pids.path() + "; while :; do sleep 1000; done");
  options.start_timeout = options.stop_grace = milliseconds(20);
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  const pid_t first = pids.Next();
  EXPECT_NE(pids.Next(), first);
  EXPECT_TRUE(Ended(first));
}

TEST(Supervisor, AReplicaThatGoesOnAfterItsLastWordsIsEnded) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  SupervisorOptions options =
      Options("trap '' TERM; echo $$ >" + pids.path() +
              "; echo 'rank 0 on a: rank 1 on b did not come'; while :; do sleep 1000; done");
  options.stop_grace = milliseconds(20);
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  const pid_t first = pids.Next();
  EXPECT_NE(pids.Next(), first);
  EXPECT_TRUE(Ended(first));
}

TEST(Supervisor, AReplicaThatFellSilentIsEnded) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  Supervisor supervisor(Options("echo $$ >" + pids.path() + "; while :; do sleep 1000; done"));
  ASSERT_TRUE(supervisor.Start().ok());
  const pid_t first = pids.Next();
  supervisor.Linked(0, 5);
  supervisor.Silent(0, 4, "nothing heard");  // an older link
  supervisor.Silent(7, 5, "nothing heard");  // nobody
  EXPECT_EQ(kill(first, 0), 0);
  supervisor.Silent(0, 5, "nothing heard");
  const pid_t second = pids.Next();
  EXPECT_NE(second, first);
  EXPECT_TRUE(Ended(first));
  supervisor.Silent(0, 5, "nothing heard");  // the one before
  supervisor.Linked(0, 6);
  supervisor.Silent(0, 6, "nothing heard");
  EXPECT_NE(pids.Next(), second);
}

TEST(Supervisor, AReplicaThatNeverServesHasFailed) {
  std::promise<std::string> why;
  int calls = 0;
  SupervisorOptions options = Options("echo 'rank 0 on here: no memory' >&2; kill -9 $$");
  options.restart.failed_after = 3;
  options.on_failed = [&](int, const std::string& what) {
    if (++calls == 1) why.set_value(what);
  };
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  EXPECT_EQ(why.get_future().get(), "rank 0 on here: no memory");
}

TEST(Supervisor, ACommandThatIsNotThereFailsTheStart) {
  SupervisorOptions options;
  options.command = [](int) { return LaunchCommand{{"no-such-launcher"}, {}}; };
  EXPECT_EQ(Message(Supervisor(options).Start()),
            "cannot run no-such-launcher: No such file or directory");
}

TEST(Supervisor, StopEndsEveryReplicaEvenThoseThatIgnoreSigterm) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  SupervisorOptions options =
      Options("trap '' TERM; echo $$ >" + pids.path() + "; while :; do sleep 1000; done");
  options.n_replicas = 3;
  options.stop_grace = milliseconds(50);
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  std::vector<pid_t> all;
  for (int i = 0; i < 3; i++) all.push_back(pids.Next());
  supervisor.Stop();
  for (pid_t pid : all) EXPECT_TRUE(Ended(pid)) << pid;
}

TEST(Supervisor, StopWaitsForAReplicaThatStillWrites) {
  SupervisorOptions options = Options(
      "trap 'head -c 300000 /dev/zero | tr \"\\0\" x; echo; echo done; exit 0' TERM; echo up; "
      "sleep 1000 & wait");
  options.stop_grace = milliseconds(60000);
  std::promise<void> up;
  std::string last;
  options.on_line = [&](int, const std::string& line) {
    if (line == "up") up.set_value();
    last = line;
  };
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  up.get_future().wait();
  supervisor.Stop();
  EXPECT_EQ(last, "done");
}

TEST(Supervisor, WhoLeavesByItselfIsNeitherSignalledNorStartedAgain) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  SupervisorOptions options = Options("trap 'echo signalled' TERM; echo $$ >" + pids.path() +
                                      "; read word <" + (dir / "leave") + "; echo left");
  mkfifo((dir / "leave").c_str(), 0600);
  std::vector<std::string> lines;
  options.on_line = [&](int, const std::string& line) { lines.push_back(line); };
  Supervisor supervisor(std::move(options));
  ASSERT_TRUE(supervisor.Start().ok());
  pids.Next();
  supervisor.LetGo();
  close(open((dir / "leave").c_str(), O_WRONLY));
  supervisor.Stop(milliseconds(60000));
  EXPECT_THAT(lines, ElementsAre("left"));
}

// The supervising process itself is killed: nothing it started may live on.
TEST(Supervisor, NothingOutlivesASupervisorThatIsKilled) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  const pid_t supervising = fork();
  if (supervising == 0) {
    SupervisorOptions options =
        Options("trap '' TERM HUP; echo $$ >" + pids.path() + "; while :; do sleep 1000; done");
    options.n_replicas = 2;
    Supervisor supervisor(std::move(options));
    if (!supervisor.Start().ok()) _exit(1);
    pause();
  }
  const pid_t a = pids.Next(), b = pids.Next();
  kill(supervising, SIGKILL);
  waitpid(supervising, nullptr, 0);
  EXPECT_TRUE(Ended(a));
  EXPECT_TRUE(Ended(b));
}

}  // namespace
}  // namespace trireme
