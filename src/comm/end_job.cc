#include "comm/end_job.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "base/str.h"
#include "comm/world.h"

namespace trireme {
namespace {

constexpr unsigned kEndSeconds =
    5;  // after that, the job's launcher notices that this process died

struct Identity {
  int rank = 0;
  std::string host = HostName();
  void (*end_others)() = nullptr;
};

Identity& ThisProcess() {
  static Identity* identity = new Identity;  // never destroyed: other threads may end the job late
  return *identity;
}

// One write, so that lines of several ranks do not mix.
void PrintLine(int rank, const std::string& host, const std::string& what) {
  const std::string line = StrCat("rank ", rank, " on ", host, ": ", what, "\n");
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

[[noreturn]] void EndProcesses(void (*end_others)()) {
  signal(SIGALRM, SIG_DFL);  // ends this process if end_others() hangs
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(kEndSeconds);
  end_others();
  _exit(1);
}

}  // namespace

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) return "unknown-host";
  return name;
}

void SetJobIdentity(int rank, const std::string& host, void (*end_others)()) {
  ThisProcess() = {rank, host, end_others};
}

void EndJobAs(int rank, const std::string& host, const std::string& what) {
  PrintLine(rank, host, what);
  if (ThisProcess().end_others != nullptr) EndProcesses(ThisProcess().end_others);
  std::abort();
}

void EndJob(const std::string& what) {
  const Identity& self = ThisProcess();
  PrintLine(self.rank, self.host, what);
  if (self.end_others != nullptr) EndProcesses(self.end_others);
  _exit(1);
}

}  // namespace trireme
