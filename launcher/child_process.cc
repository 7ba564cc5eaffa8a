#include "launcher/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <utility>

extern char** environ;

namespace trireme {
namespace {

constexpr int kErrorFd = 3;  // in the child: tells the parent why exec failed

// Between fork and exec: async-signal-safe calls only, since other threads' locks may be held.
[[noreturn]] void BecomeCommand(pid_t parent, int input_fd, int output_fd, int error_fd,
                                const cpu_set_t* cpus, char** argv, char** env) {
  setpgid(0, 0);
  if (cpus) sched_setaffinity(0, sizeof *cpus, cpus);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent ended before prctl
  dup2(input_fd, STDIN_FILENO);
  dup2(output_fd, STDOUT_FILENO);
  dup2(output_fd, STDERR_FILENO);
  dup2(error_fd, kErrorFd);
  fcntl(kErrorFd, F_SETFD, FD_CLOEXEC);
  close_range(kErrorFd + 1, ~0U, 0);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execvpe(argv[0], argv, env);
  const int error = errno;
  (void)!write(kErrorFd, &error, sizeof error);
  _exit(127);
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::string>& changes) {
  std::set<std::string> changed;
  for (const std::string& change : changes) changed.insert(change.substr(0, change.find('=')));
  std::vector<std::string> all;
  for (char** entry = environ; *entry; entry++) {
    const std::string text = *entry;
    if (!changed.count(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const std::string& change : changes) {
    if (change.find('=') != std::string::npos) all.push_back(change);
  }
  return all;
}

// A descriptor; -1: there is none, and errno says why.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.Release()) {}
  Fd& operator=(Fd&& other) noexcept {
    Close();
    fd_ = other.Release();
    return *this;
  }
  ~Fd() { Close(); }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  void Close() {
    const int error = errno;
    if (fd_ >= 0) close(Release());
    errno = error;
  }

 private:
  int fd_;
};

// One above kErrorFd, so that the child's dup2 calls overwrite none of its own sources.
Fd High(const Fd& fd) {
  return Fd(fd.get() < 0 ? -1 : fcntl(fd.get(), F_DUPFD_CLOEXEC, kErrorFd + 1));
}

struct Pipe {
  Fd read, write;  // both or none

  Pipe() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return;
    read = Fd(fds[0]);
    write = High(Fd(fds[1]));
    if (write.get() < 0) read.Close();
  }
};

}  // namespace

void DieWithParent() { prctl(PR_SET_PDEATHSIG, SIGKILL); }

absl::StatusOr<ChildProcess> ChildProcess::Start(const std::vector<std::string>& argv,
                                                 const std::vector<std::string>& env,
                                                 const std::vector<int>& cpus) {
  std::vector<std::string> arguments = argv;
  std::vector<std::string> environment = Environment(env);
  std::vector<char*> arg_pointers = Pointers(arguments);
  std::vector<char*> env_pointers = Pointers(environment);

  cpu_set_t cpu_set;
  CPU_ZERO(&cpu_set);
  for (int cpu : cpus) CPU_SET(cpu, &cpu_set);

  const auto cannot_run = [&](int error) {
    const std::string message = StrCat("cannot run ", argv[0], ": ", strerror(error));
    return error == ENOENT ? NotFound(message) : Internal(message);
  };
  Pipe output, error;
  Fd input = High(Fd(open("/dev/null", O_RDONLY | O_CLOEXEC)));
  if (output.read.get() < 0 || error.read.get() < 0 || input.get() < 0) return cannot_run(errno);

  const pid_t parent = getpid();
  const pid_t pid = _Fork();  // no atfork handlers: the child calls nothing that they would mend
  if (pid == 0) {
    BecomeCommand(parent, input.get(), output.write.get(), error.write.get(),
                  cpus.empty() ? nullptr : &cpu_set, arg_pointers.data(), env_pointers.data());
  }
  const int fork_error = errno;
  for (Fd* fd : {&input, &output.write, &error.write}) fd->Close();
  int exec_error = 0;
  if (pid < 0) {
    exec_error = fork_error;
  } else if (read(error.read.get(), &exec_error, sizeof exec_error) == sizeof exec_error) {
    waitpid(pid, nullptr, 0);
  } else {
    exec_error = 0;  // the pipe closed on exec
  }
  error.read.Close();
  if (exec_error != 0) return cannot_run(exec_error);
  const int exit_fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  const int pidfd_error = errno;
  fcntl(output.read.get(), F_SETFL, O_NONBLOCK);
  ChildProcess child(pid, exit_fd, output.read.Release());
  if (exit_fd < 0) return cannot_run(pidfd_error);  // it ends with `child`
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      exit_fd_(std::exchange(other.exit_fd_, -1)),
      output_fd_(std::exchange(other.output_fd_, -1)) {}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) {
    Signal(SIGKILL);
    Reap();
  }
  if (exit_fd_ >= 0) close(exit_fd_);
  CloseOutput();
}

void ChildProcess::CloseOutput() {
  if (output_fd_ >= 0) close(std::exchange(output_fd_, -1));
}

void ChildProcess::Signal(int signal) const {
  if (pid_ > 0) kill(-pid_, signal);
}

int ChildProcess::Reap() {
  siginfo_t info;
  while (waitid(P_PID, pid_, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
  }
  Signal(SIGKILL);  // what it leaves behind in its group, while the group's number is still ours
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  return status;
}

std::string DescribeExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signal = WTERMSIG(wait_status);
    return StrCat("was killed by signal ", signal, " (", strsignal(signal), ")");
  }
  return StrCat("exited with code ", WEXITSTATUS(wait_status));
}

}  // namespace trireme
