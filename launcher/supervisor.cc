#include "launcher/supervisor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/check.h"
#include "base/log.h"
#include "base/log_fields.h"
#include "launcher/child_process.h"
#include "nlohmann/json.hpp"

namespace trireme {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

namespace {

// A replica that did serve is not to blame for long.
constexpr int kDoublingsAfterService = 3;

// Within which the controller has noticed that the link of an ended replica is over.
constexpr milliseconds kNewsOfLoss{1000};

}  // namespace

RestartPolicy::Duration RestartPolicy::AfterRun(std::optional<Duration> served) {
  never_linked_ = served ? 0 : never_linked_ + 1;
  if (served && *served >= limits_.served_well) bad_runs_ = 0;
  if (served) bad_runs_ = std::min(bad_runs_, kDoublingsAfterService);
  Duration wait{0};
  if (bad_runs_ > 0) {
    wait = limits_.first;
    for (int i = 1; i < bad_runs_ && wait < limits_.most; i++) wait *= 2;
  }
  bad_runs_++;
  return std::min(wait, limits_.most);
}

namespace {

// mpirun and shells exit with 128 + the signal that ended their child.
bool TellsOfSignal(int wait_status) {
  return WEXITSTATUS(wait_status) > 128 && WEXITSTATUS(wait_status) <= 128 + SIGRTMAX;
}

nlohmann::ordered_json Fields(int replica, const Failure& failure) {
  nlohmann::ordered_json fields = {{"replica", replica}};
  if (failure.rank >= 0) fields.update({{"rank", failure.rank}, {"host", failure.host}});
  fields["cause"] = failure.cause;
  if (failure.plan >= 0) {
    fields.update(
        {{"plan", failure.plan}, {"sequences", failure.n_sequences}, {"tokens", failure.n_tokens}});
  }
  return fields;
}

}  // namespace

// One thread owns the children: PDEATHSIG is bound to the thread that starts them.
class Supervisor::Loop {
 public:
  explicit Loop(SupervisorOptions options)
      : options_(std::move(options)), wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    CHECK_GE(wake_fd_, 0);
    slots_.reserve(options_.n_replicas);
    for (int i = 0; i < options_.n_replicas; i++) slots_.emplace_back(i, options_.restart);
  }

  ~Loop() {
    Stop({});
    close(wake_fd_);
  }

  absl::Status Start() {
    std::promise<absl::Status> started;
    std::future<absl::Status> result = started.get_future();
    thread_ =
        std::thread([this, started = std::move(started)]() mutable { Run(std::move(started)); });
    return result.get();
  }

  void Linked(int replica, uint64_t link) {
    Post(replica, [this, link](Slot& slot) {
      ready_ = true;
      slot.link = link;
      slot.linked_at = Clock::now();
      if (!slot.terminated) slot.end_at.reset();
    });
  }

  void Lost(int replica, uint64_t link, const nlohmann::ordered_json& fields) {
    Post(replica, [link, fields](Slot& slot) {
      if (slot.obituary && slot.obituary->link == link) {
        Publish(slot, fields);
      } else if (slot.link == link) {
        slot.lost = fields;
      }
    });
  }

  void Silent(int replica, uint64_t link, const std::string& why) {
    Post(replica, [this, link, why](Slot& slot) {
      if (slot.child && slot.link == link) End(slot, why);
    });
  }

  void LetGo() { let_go_ = true; }

  void Stop(milliseconds leave) {
    if (!thread_.joinable()) return;
    leave_ = leave;
    LetGo();
    stop_ = true;
    Wake();
    thread_.join();
  }

 private:
  // What is said of a replica's end, once the controller has told what it knows.
  struct Obituary {
    uint64_t link;
    std::string line;
    nlohmann::ordered_json fields;
    Clock::time_point publish_at;  // at the latest
  };

  struct Slot {
    Slot(int i, RestartPolicy::Limits limits) : index(i), policy(limits) {}
    int index;
    RestartPolicy policy;
    std::string program;
    std::optional<ChildProcess> child;
    Clock::time_point started;
    std::optional<Clock::time_point> linked_at;
    uint64_t link = 0;
    std::optional<nlohmann::ordered_json>
        lost;                                   // what the controller knows, once that link is over
    std::optional<Obituary> obituary;           // of the run before
    std::optional<Clock::time_point> start_at;  // empty while it runs, or for ever
    std::optional<Clock::time_point> end_at;    // while it runs: when it is signalled next
    bool terminated = false;                    // it has had its SIGTERM
    bool gave_up = false;                       // before any replica was ready
    std::string ended_for;                      // why it was signalled
    std::string partial_line;
    FailureNotes notes;
  };

  void Run(std::promise<absl::Status> started) {
    for (Slot& slot : slots_) {
      absl::Status status = StartReplica(slot);
      if (!status.ok()) {
        slots_.clear();
        started.set_value(status);
        return;
      }
    }
    started.set_value(absl::OkStatus());
    while (!stop_) WaitForEvents({});

    for (Slot& slot : slots_) slot.start_at.reset();
    AwaitEnds(leave_);
    for (Slot& slot : slots_) {
      if (slot.child) slot.child->Signal(SIGTERM);
    }
    AwaitEnds(options_.stop_grace);
    for (Slot& slot : slots_) {
      if (slot.obituary) Publish(slot, {});
    }
    slots_.clear();  // kills what is left
  }

  void Wake() {
    const uint64_t one = 1;
    (void)!write(wake_fd_, &one, sizeof one);
  }

  using News = std::function<void(Slot&)>;

  void Post(int replica, News news) {
    {
      std::lock_guard lock(mutex_);
      mailbox_.emplace_back(replica, std::move(news));
    }
    Wake();
  }

  void DrainMailbox() {
    std::vector<std::pair<int, News>> mail;
    {
      std::lock_guard lock(mutex_);
      mail.swap(mailbox_);
    }
    for (const auto& [replica, news] : mail) {
      if (replica >= 0 && replica < static_cast<int>(slots_.size())) news(slots_[replica]);
    }
  }

  // SIGTERM, which mpirun and srun hand on; SIGKILL where that does not help.
  void End(Slot& slot, const std::string& why) {
    if (slot.terminated) return;
    slot.ended_for = why;
    slot.terminated = true;
    slot.end_at = Clock::now() + options_.stop_grace;
    slot.child->Signal(SIGTERM);
  }

  void CheckTimes(Slot& slot) {
    const Clock::time_point now = Clock::now();
    if (slot.obituary && slot.obituary->publish_at <= now) Publish(slot, {});
    if (slot.start_at && *slot.start_at <= now) Restart(slot);
    if (!slot.child || !slot.end_at || *slot.end_at > now) return;
    if (slot.terminated) {
      slot.end_at.reset();
      slot.child->Signal(SIGKILL);
    } else {
      End(slot, slot.notes.failure().value_or(
                    StrCat("was not ready within ", options_.start_timeout.count() / 1e3, " s")));
    }
  }

  void AwaitEnds(milliseconds most) {
    const Clock::time_point deadline = Clock::now() + most;
    auto runs = [](const Slot& slot) { return slot.child.has_value(); };
    while (std::any_of(slots_.begin(), slots_.end(), runs) && Clock::now() < deadline) {
      WaitForEvents(deadline);
    }
  }

  absl::Status StartReplica(Slot& slot) {
    const LaunchCommand command = options_.command(slot.index);
    ASSIGN_OR_RETURN(ChildProcess child,
                     ChildProcess::Start(command.argv, command.env, command.cpus));
    slot.child.emplace(std::move(child));
    slot.program = command.argv[0];
    slot.started = Clock::now();
    slot.start_at.reset();
    slot.linked_at.reset();
    slot.link = 0;
    slot.lost.reset();
    slot.end_at = slot.started + options_.start_timeout;
    slot.terminated = false;
    slot.ended_for.clear();
    slot.partial_line.clear();
    slot.notes = FailureNotes();
    spdlog::debug("replica {}: started as pid {}: {}", slot.index, slot.child->pid(),
                  Join(command.argv, " "));
    return absl::OkStatus();
  }

  // Sleeps until output, an exit, a wake-up, the next start or `next`; deals with what came.
  void WaitForEvents(std::optional<Clock::time_point> next) {
    std::vector<pollfd> fds = {{wake_fd_, POLLIN, 0}};
    for (Slot& slot : slots_) {
      // A negative descriptor is skipped by poll.
      fds.push_back({slot.child ? slot.child->output_fd() : -1, POLLIN, 0});
      fds.push_back({slot.child ? slot.child->exit_fd() : -1, POLLIN, 0});
      auto earlier = [&next](Clock::time_point time) {
        if (!next || time < *next) next = time;
      };
      if (slot.start_at) earlier(*slot.start_at);
      if (slot.end_at) earlier(*slot.end_at);
      if (slot.obituary) earlier(slot.obituary->publish_at);
    }
    int timeout_ms = -1;
    if (next) {
      const auto left = std::chrono::ceil<milliseconds>(*next - Clock::now());
      timeout_ms = static_cast<int>(std::max<int64_t>(0, left.count()));
    }
    if (poll(fds.data(), fds.size(), timeout_ms) < 0) {
      CHECK_EQ(errno, EINTR);
      return;
    }
    uint64_t wakes;
    (void)!read(wake_fd_, &wakes, sizeof wakes);
    DrainMailbox();
    for (size_t i = 0; i < slots_.size(); i++) {
      Slot& slot = slots_[i];
      if (fds[1 + 2 * i].revents) ReadOutput(slot);
      if (fds[2 + 2 * i].revents) HandleExit(slot);
      CheckTimes(slot);
    }
  }

  void ReadOutput(Slot& slot) {
    char buffer[4096];
    ssize_t n;
    while ((n = read(slot.child->output_fd(), buffer, sizeof buffer)) > 0) {
      slot.partial_line.append(buffer, n);
      size_t end;
      while ((end = slot.partial_line.find('\n')) != std::string::npos) {
        ShowLine(slot, slot.partial_line.substr(0, end));
        slot.partial_line.erase(0, end + 1);
      }
    }
    if (n == 0 && !slot.partial_line.empty()) ShowLine(slot, std::exchange(slot.partial_line, ""));
    if (n == 0) slot.child->CloseOutput();
  }

  void ShowLine(Slot& slot, const std::string& line) {
    for (const std::string& shown : slot.notes.Add(line)) {
      if (options_.on_line) options_.on_line(slot.index, shown);
    }
    if (slot.notes.failure()) EndSoon(slot);
  }

  // After last words: what started the ranks may wait in vain for a host that does not answer.
  void EndSoon(Slot& slot) {
    const Clock::time_point soon = Clock::now() + options_.stop_grace;
    if (!slot.terminated && (!slot.end_at || *slot.end_at > soon)) slot.end_at = soon;
  }

  void HandleExit(Slot& slot) {
    if (slot.child->output_fd() >= 0) ReadOutput(slot);
    const int status = slot.child->Reap();
    slot.child.reset();
    slot.end_at.reset();
    if (let_go_) return;
    const Clock::time_point now = Clock::now();
    const auto ran = std::chrono::duration_cast<milliseconds>(now - slot.started);
    std::optional<milliseconds> served;
    if (slot.linked_at) served = std::chrono::duration_cast<milliseconds>(now - *slot.linked_at);
    const std::string what =
        !slot.ended_for.empty()
            ? slot.ended_for
            : slot.notes.failure().value_or(StrCat(slot.program, " ", DescribeExit(status)));
    const bool gave_up = WIFEXITED(status) && WEXITSTATUS(status) != 0 && !TellsOfSignal(status);
    if (!ready_ && gave_up && slot.ended_for.empty() && options_.on_hopeless) {
      slot.gave_up = true;
      if (std::ranges::all_of(slots_, &Slot::gave_up)) {
        options_.on_hopeless(slot.index, what);
        return;
      }
    }
    const auto wait = slot.policy.AfterRun(served);
    if (served && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      spdlog::info("replica {}: it was sent home after {:.1f} s; starting it again", slot.index,
                   ran.count() / 1e3);
      slot.start_at = Clock::now() + wait;
      return;
    }
    if (slot.obituary) Publish(slot, {});
    slot.obituary = {
        slot.link,
        fmt::format("replica {}: {} after {:.1f} s; starting it again{}", slot.index, what,
                    ran.count() / 1e3,
                    wait.count() ? fmt::format(" in {:.1f} s", wait.count() / 1e3) : ""),
        Fields(slot.index, ReadFailure(what)), now + kNewsOfLoss};
    if (slot.lost || slot.link == 0) Publish(slot, slot.lost.value_or(nullptr));
    slot.start_at = Clock::now() + wait;
    TellOfFailure(slot, what);
  }

  static void Publish(Slot& slot, const nlohmann::ordered_json& more) {
    Obituary obituary = *std::exchange(slot.obituary, std::nullopt);
    if (!more.is_null()) obituary.fields.update(more);
    LogWithFields(spdlog::level::err, obituary.line, obituary.fields);
  }

  void Restart(Slot& slot) {
    if (absl::Status status = StartReplica(slot); !status.ok()) {
      const auto wait = slot.policy.AfterRun({});
      spdlog::error("replica {}: {}; trying again in {:.1f} s", slot.index, Message(status),
                    wait.count() / 1e3);
      slot.start_at = Clock::now() + wait;
      TellOfFailure(slot, Message(status));
    }
  }

  void TellOfFailure(const Slot& slot, const std::string& what) {
    if (slot.policy.failed() && options_.on_failed) options_.on_failed(slot.index, what);
  }

  const SupervisorOptions options_;
  const int wake_fd_;
  milliseconds leave_{};  // set before stop_
  std::atomic<bool> stop_ = false;
  std::atomic<bool> let_go_ = false;
  std::mutex mutex_;
  std::vector<std::pair<int, News>> mailbox_ ABSL_GUARDED_BY(mutex_);  // of a replica
  // The thread's:
  bool ready_ = false;
  std::vector<Slot> slots_;
  std::thread thread_;
};

Supervisor::Supervisor(SupervisorOptions options)
    : loop_(std::make_unique<Loop>(std::move(options))) {}
Supervisor::~Supervisor() = default;
absl::Status Supervisor::Start() { return loop_->Start(); }
void Supervisor::Linked(int replica, uint64_t link) { loop_->Linked(replica, link); }
void Supervisor::Lost(int replica, uint64_t link, const nlohmann::ordered_json& fields) {
  loop_->Lost(replica, link, fields);
}
void Supervisor::Silent(int replica, uint64_t link, const std::string& why) {
  loop_->Silent(replica, link, why);
}
void Supervisor::LetGo() { loop_->LetGo(); }
void Supervisor::Stop(milliseconds leave) { loop_->Stop(leave); }

}  // namespace trireme
