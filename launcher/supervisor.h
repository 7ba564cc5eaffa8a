// Keeps the replicas of one controller running: starts each by its launch command, starts it again
// when it ends, and leaves no process behind.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "launcher/launch_command.h"
#include "nlohmann/json_fwd.hpp"

namespace trireme {

// How long to wait before a replica is started again. At once after it served well; then twice as
// long after each failure that follows, and a few times at most where it did serve for a while.
class RestartPolicy {
 public:
  using Duration = std::chrono::milliseconds;
  struct Limits {
    Duration first{250};
    Duration most{10000};
    Duration served_well{5000};  // for so long forgets the failures before it
    int failed_after = 5;        // runs in a row that were never linked
  };

  explicit RestartPolicy(Limits limits) : limits_(limits) {}

  // The replica ended `served` after it was linked, or never was; returns the wait.
  Duration AfterRun(std::optional<Duration> served);

  // It fails at each start.
  bool failed() const { return never_linked_ >= limits_.failed_after; }

 private:
  Limits limits_;
  int bad_runs_ = 0;      // in a row
  int never_linked_ = 0;  // in a row
};

struct SupervisorOptions {
  int n_replicas = 1;
  std::function<LaunchCommand(int replica)> command;
  RestartPolicy::Limits restart;
  std::chrono::milliseconds stop_grace{2000};  // from last words to SIGTERM, and on to SIGKILL
  std::chrono::milliseconds start_timeout{1800000};  // from a start to Linked(); then it is ended

  // Every replica has ended with an exit code of its own before any was ready: they will not do
  // better next time (a bad flag, an unreadable model). The last of them is named, and not started
  // again. Called on the supervisor's thread.
  std::function<void(int replica, const std::string& why)> on_hopeless;

  // A replica fails at each start (RestartPolicy). It is tried on, now and then. Called on the
  // supervisor's thread, at each such end.
  std::function<void(int replica, const std::string& why)> on_failed;

  // Where the replicas' output goes, line by line; on the supervisor's thread.
  std::function<void(int replica, const std::string& line)> on_line;
};

class Supervisor {
 public:
  explicit Supervisor(SupervisorOptions options);
  ~Supervisor();  // Stop()

  // NOT_FOUND if the first command cannot be run at all.
  absl::Status Start();

  // The replica has registered, on that link: from now on they are started again however they end.
  void Linked(int replica, uint64_t link);

  // That link is over; `fields`: what the controller knows of it, for the line that tells of the
  // replica's end.
  void Lost(int replica, uint64_t link, const nlohmann::ordered_json& fields);

  // Nothing is heard on that link any more: the replica is ended, unless it has ended by itself.
  void Silent(int replica, uint64_t link, const std::string& why);

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
