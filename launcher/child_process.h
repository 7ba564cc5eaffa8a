// Child processes that cannot outlive their parent.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/status.h"

namespace trireme {

// From now on the kernel kills this process when its parent ends (Linux, PR_SET_PDEATHSIG). Ranks
// ask for it first of all: killing `mpirun` with SIGKILL would leave them running.
void DieWithParent();

// A running command in a process group of its own, its stdout and stderr in one pipe.
// PR_SET_PDEATHSIG is bound to the thread that starts the child: that thread must outlive it.
class ChildProcess {
 public:
  // `argv`: looked up in PATH; `env`: NAME=value, added to this process's environment; a bare NAME
  // is removed from it. NOT_FOUND or INTERNAL with the command's name and the system's reason.
  static absl::StatusOr<ChildProcess> Start(const std::vector<std::string>& argv,
                                            const std::vector<std::string>& env,
                                            const std::vector<int>& cpus = {});

  // Kills the group and waits for the child, if it was not reaped.
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;

  pid_t pid() const { return pid_; }
  int exit_fd() const { return exit_fd_; }      // readable once the child has ended
  int output_fd() const { return output_fd_; }  // non-blocking; -1 once closed
  void CloseOutput();

  void Signal(int signal) const;  // to the whole group

  // Once exit_fd() is readable: the status as waitpid gives it.
  int Reap();

 private:
  ChildProcess(pid_t pid, int exit_fd, int output_fd)
      : pid_(pid), exit_fd_(exit_fd), output_fd_(output_fd) {}

  pid_t pid_;  // -1 when reaped or moved from
  int exit_fd_;
  int output_fd_;
};

// "exited with code 3", "was killed by signal 9 (Killed)".
std::string DescribeExit(int wait_status);

}  // namespace trireme
