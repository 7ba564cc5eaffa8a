// Keeps the replicas of one controller running: starts each by its launch command, starts it again
// when it ends, and leaves no process behind.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "launcher/launch_command.h"

namespace trireme {

// How long to wait before a replica is started again. At once after it ran well; then twice as long
// after each failure that follows a short run.
class RestartPolicy {
 public:
  using Duration = std::chrono::milliseconds;
  struct Limits {
    Duration first{250};
    Duration most{30000};
    Duration ran_well{5000};  // a run this long forgets the failures before it
  };

  explicit RestartPolicy(Limits limits) : limits_(limits) {}

  // The replica ended after `ran`; returns the wait.
  Duration AfterRun(Duration ran);

 private:
  Limits limits_;
  int short_runs_ = 0;  // in a row
};

struct SupervisorOptions {
  int n_replicas = 1;
  std::function<LaunchCommand(int replica)> command;
  RestartPolicy::Limits restart;
  std::chrono::milliseconds stop_grace{2000};  // between SIGTERM and SIGKILL in Stop()

  // A replica ended with an exit code of its own before any was ready: it will not do better next
  // time (a bad flag, an unreadable model). It is not started again. Called on the supervisor's
  // thread.
  std::function<void(int replica, const std::string& why)> on_hopeless;

  // Where the replicas' output goes, line by line; on the supervisor's thread.
  std::function<void(int replica, const std::string& line)> on_line;
};

class Supervisor {
 public:
  explicit Supervisor(SupervisorOptions options);
  ~Supervisor();  // Stop()

  // NOT_FOUND if the first command cannot be run at all.
  absl::Status Start();

  // A replica has registered: from now on they are started again however they end.
  void MarkReady();

  // From now on, a replica that ends is not started again.
  void LetGo();

  // Ends every replica: waits `leave` for those that were told to leave, then SIGTERM, then
  // SIGKILL. Returns when their launch commands are gone; the kernel ends the ranks with them
  // (DieWithParent).
  void Stop(std::chrono::milliseconds leave = {});

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace trireme
