// Leader: rank 0's loop. Drains the mailbox, keeps as many plans in flight as keep every stage and
// the device at work, commits results in order, and reports once per commit that has news.
#pragma once

#include <mutex>
#include <variant>
#include <vector>

#include "comm/world.h"
#include "runtime/engine.h"
#include "runtime/replica.h"
#include "runtime/scheduler.h"

namespace trireme {

class Leader : public Replica {
 public:
  // `step_timeout`: how long the other stages may take for a plan beyond several times what this
  // one took. Then the job ends with one line.
  Leader(World& world, Engine& engine, const SchedulerOptions& options,
         std::chrono::milliseconds step_timeout, ReplicaInfo info);

  // Until Stop(); then awaits what is in flight and tells the other ranks to stop.
  void Run();

  const ReplicaInfo& info() const override { return info_; }
  void SetSink(Sink sink) override;
  void Submit(SequenceRequest request) override;
  void Cancel(uint64_t id) override;
  void Stop() override;

 private:
  struct CancelMessage {
    uint64_t id;
  };
  struct SinkMessage {
    Sink sink;
  };
  struct StopMessage {};
  using Message = std::variant<SequenceRequest, CancelMessage, SinkMessage, StopMessage>;

  void Post(Message message);
  void DrainMailbox();
  void Handle(SequenceRequest&& request);
  void Handle(CancelMessage&& message);
  void Handle(SinkMessage&& message);
  void Handle(StopMessage&&);
  void StartPlan(const StepPlan& plan);
  std::optional<StepResult> FinishPlan();
  void AwaitResult();
  void Commit(const StepResult& result);
  void CommitReports();
  void Await(bool expect_result);
  void Report();

  World& world_;
  Engine& engine_;
  const int pp_;
  const std::chrono::milliseconds step_timeout_;
  const ReplicaInfo info_;
  Scheduler scheduler_;
  Sink sink_;
  ReplicaStats reported_;
  bool stopping_ = false;
  Deadline last_progress_;                          // a plan run here, or a result
  std::chrono::steady_clock::duration slowest_{0};  // of the plans run here

  std::mutex mutex_;  // guards mailbox_; held for a push or a swap
  std::vector<Message> mailbox_;
};

// One plan on every rank, before there is a leader's loop. Rank 0's plan counts.
void RunFirstPlan(World& world, Engine& engine, const StepPlan& plan,
                  std::chrono::milliseconds step_timeout);

// What every other rank does: one plan, from its beginning to its end; and plans as they come,
// until it is told to stop.
void RunOnePlan(World& world, Engine& engine);
void FollowLeader(World& world, Engine& engine);

}  // namespace trireme
