// What the launcher's tests need to see processes end: events, never a sleep.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace trireme {

// A folder that goes with the test.
class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/trireme-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A named pipe through which scripts tell the test their pids, one line each.
class PidPipe {
 public:
  explicit PidPipe(const std::string& path) : path_(path) {
    mkfifo(path.c_str(), 0600);
    file_ = fdopen(open(path.c_str(), O_RDWR | O_CLOEXEC), "r");  // never sees end of file
  }
  ~PidPipe() { fclose(file_); }
  const std::string& path() const { return path_; }

  pid_t Next() {
    char line[32] = {};
    return fgets(line, sizeof line, file_) ? atoi(line) : -1;
  }

 private:
  std::string path_;
  FILE* file_;
};

// Waits until the process has ended (a zombie counts); false after ten seconds.
inline bool Ended(pid_t pid) {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return true;
  pollfd event = {fd, POLLIN, 0};
  const bool ended = poll(&event, 1, 10000) == 1;
  close(fd);
  return ended;
}

}  // namespace trireme
