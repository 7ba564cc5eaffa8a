#include "launcher/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>

#include "tests/launcher/processes.h"

namespace trireme {
namespace {

// The child's whole output and its status.
std::pair<std::string, int> RunToEnd(const std::vector<std::string>& argv,
                                     const std::vector<std::string>& env = {}) {
  auto child = ChildProcess::Start(argv, env);
  if (!child.ok()) return {Message(child.status()), -1};
  std::string output;
  for (;;) {
    pollfd event = {child->output_fd(), POLLIN, 0};
    poll(&event, 1, -1);
    char buffer[256];
    const ssize_t n = read(child->output_fd(), buffer, sizeof buffer);
    if (n <= 0) break;
    output.append(buffer, n);
  }
  return {output, child->Reap()};
}

TEST(ChildProcess, OutputOfBothStreamsAndStatus) {
  auto [output, status] = RunToEnd({"sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_EQ(output, "out\nerr\n");
  EXPECT_EQ(DescribeExit(status), "exited with code 3");
  EXPECT_EQ(DescribeExit(RunToEnd({"sh", "-c", "kill -9 $$"}).second),
            "was killed by signal 9 (Killed)");
}

TEST(ChildProcess, EnvironmentIsAddedToAndTakenFrom) {
  setenv("TRIREME_TEST_KEPT", "k", 1);
  setenv("TRIREME_TEST_GONE", "g", 1);
  auto [output, status] =
      RunToEnd({"sh", "-c", "echo $TRIREME_TEST_KEPT-$TRIREME_TEST_GONE-$TRIREME_TEST_NEW"},
               {"TRIREME_TEST_GONE", "TRIREME_TEST_NEW=n"});
  EXPECT_EQ(output, "k--n\n");
}

TEST(ChildProcess, NoDescriptorIsInherited) {
  const int fd = open("/dev/null", O_RDONLY);  // not close-on-exec
  auto [output, status] = RunToEnd({"sh", "-c", "ls /proc/self/fd | wc -l"});
  close(fd);
  EXPECT_EQ(output, "4\n");  // stdin, stdout, stderr and ls's own
}

TEST(ChildProcess, RunsOnTheCpusItIsGiven) {
  cpu_set_t mine;
  ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &mine)) last--;
  auto child = ChildProcess::Start({"sleep", "1000"}, {}, {last});
  ASSERT_TRUE(child.ok());
  cpu_set_t its;
  ASSERT_EQ(sched_getaffinity(child->pid(), sizeof its, &its), 0);
  EXPECT_EQ(CPU_COUNT(&its), 1);
  EXPECT_TRUE(CPU_ISSET(last, &its));
}

TEST(ChildProcess, ACommandThatIsNotThereIsNamed) {
  EXPECT_EQ(RunToEnd({"no-such-command"}).first,
            "cannot run no-such-command: No such file or directory");
}

TEST(ChildProcess, TheDestructorEndsTheGroup) {
  TempDir dir;
  PidPipe pids(dir / "pids");
  pid_t shell, sleeper;
  {
    auto child = ChildProcess::Start(
        {"sh", "-c", "trap '' TERM; sleep 1000 & echo $! >" + pids.path() + "; wait"}, {});
    ASSERT_TRUE(child.ok());
    shell = child->pid();
    sleeper = pids.Next();
  }
  EXPECT_TRUE(Ended(shell));
  EXPECT_TRUE(Ended(sleeper));
}

}  // namespace
}  // namespace trireme
