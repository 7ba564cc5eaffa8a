// Leader: rank 0's loop. Drains the mailbox that the links post to, keeps as many plans in flight
// as keep every stage and the device at work, commits results in order, and reports once per commit
// that has news. When idle it runs a canary now and then, a real plan that nobody asked for: a rank
// that hangs is found before a request is.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "comm/world.h"
#include "runtime/engine.h"
#include "runtime/links.h"
#include "runtime/replica.h"
#include "runtime/scheduler.h"
#include "runtime/step_watch.h"

namespace trireme {

class Leader : public Replica {
 public:
  // `canary`: one token, no KV written. Where nothing moves for `step_timeout` the job ends with
  // one line; other stages may take that long beyond several times what this one took.
  Leader(World& world, Engine& engine, const SchedulerOptions& options, StepPlan canary,
         std::chrono::milliseconds step_timeout, ReplicaInfo info);

  // Until Stop(); then awaits what is in flight and tells the other ranks to stop.
  void Run();

  const ReplicaInfo& info() const override { return info_; }
  std::unique_ptr<Link> Connect(Sink sink) override;
  void Stop() override;

 private:
  class PostingLink;
  struct OpenMessage {
    uint64_t link;
    Sink sink;
  };
  struct SubmitMessage {
    uint64_t link;
    SequenceRequest request;
  };
  struct CancelMessage {
    uint64_t link;
    uint64_t id;
  };
  struct CloseMessage {
    uint64_t link;
  };
  struct StopMessage {};
  using Message =
      std::variant<OpenMessage, SubmitMessage, CancelMessage, CloseMessage, StopMessage>;

  void Post(Message message);
  void DrainMailbox();
  void Handle(OpenMessage&& message);
  void Handle(SubmitMessage&& message);
  void Handle(CancelMessage&& message);
  void Handle(CloseMessage&& message);
  void Handle(StopMessage&&);
  void StartPlan(const StepPlan& plan);
  std::optional<StepResult> FinishPlan();
  void AwaitResult();
  void Commit(const StepResult& result);
  void CommitReports();
  void Await(bool expect_result);
  void Report();
  void RunCanary();

  World& world_;
  Engine& engine_;
  const int pp_;
  const StepPlan canary_;
  const std::chrono::milliseconds step_timeout_;
  const ReplicaInfo info_;
  const std::string others_;  // OtherStages
  Scheduler scheduler_;
  Links links_;
  ReplicaStats reported_;
  Deadline hold_;  // no plan is started before
  bool stopping_ = false;
  Deadline last_progress_ = std::chrono::steady_clock::now();  // a plan run here, or a result
  std::chrono::steady_clock::duration slowest_{0};             // of the plans run here

  std::atomic<uint64_t> last_link_{0};
  std::mutex mutex_;  // guards mailbox_; held for a push or a swap
  std::vector<Message> mailbox_;
  std::optional<StepWatch> watch_;  // while Run() runs
};

// "ranks 2-3 on b, rank 4 on c": those of the stages behind the first. `hosts`: by rank.
std::string OtherStages(const std::vector<std::string>& hosts, int tp);

// One plan on every rank while no other is in flight. Rank 0's plan counts; on it, `waits` is told
// how long the other stages may take, of which `others` (OtherStages) is said if they take longer.
void RunPlanAlone(World& world, Engine& engine, const StepPlan& plan,
                  std::chrono::milliseconds step_timeout, const std::string& others,
                  const std::function<void(std::chrono::milliseconds)>& waits = {});

// What every other rank does: one plan, from its beginning to its end; and plans as they come,
// until it is told to stop. The job ends when none comes for `patience`.
void RunOnePlan(World& world, Engine& engine);
void FollowLeader(World& world, Engine& engine, std::chrono::milliseconds patience);

}  // namespace trireme
