#include "runtime/leader.h"

#include <algorithm>
#include <utility>

namespace trireme {
namespace {

// How many times as long as this stage the others may take for a plan, the timeout aside.
constexpr int kSlack = 8;

// Sleeps until there may be news; not longer than the other stages may take: they are balanced, so
// each takes about as long as this one.
void AwaitStages(World& world, Deadline last_progress,
                 std::chrono::steady_clock::duration longest) {
  if (std::chrono::steady_clock::now() >= last_progress + longest) {
    EndJob(StrCat("no result from the last stage for ",
                  std::chrono::duration_cast<std::chrono::milliseconds>(longest).count(),
                  " ms: a rank of another stage hangs or is out of reach"));
  }
  world.Wait(last_progress + longest, true);
}

}  // namespace

Leader::Leader(World& world, Engine& engine, const SchedulerOptions& options,
               std::chrono::milliseconds step_timeout, ReplicaInfo info)
    : world_(world),
      engine_(engine),
      pp_(options.pp),
      step_timeout_(step_timeout),
      info_(std::move(info)),
      scheduler_(options) {}

void Leader::Post(Message message) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    mailbox_.push_back(std::move(message));
  }
  world_.Wake();
}

void Leader::SetSink(Sink sink) { Post(SinkMessage{std::move(sink)}); }
void Leader::Submit(SequenceRequest request) { Post(std::move(request)); }
void Leader::Cancel(uint64_t id) { Post(CancelMessage{id}); }
void Leader::Stop() { Post(StopMessage{}); }

void Leader::DrainMailbox() {
  std::vector<Message> messages;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    messages.swap(mailbox_);
  }
  for (Message& message : messages) {
    std::visit([this](auto&& m) { Handle(std::move(m)); }, std::move(message));
  }
}

void Leader::Handle(SequenceRequest&& request) { scheduler_.Submit(std::move(request)); }

void Leader::Handle(CancelMessage&& message) { scheduler_.Cancel(message.id); }

void Leader::Handle(SinkMessage&& message) {
  Report();
  scheduler_.CancelAll();
  scheduler_.TakeReport();  // nobody is left to hear of them
  sink_ = std::move(message.sink);
}

void Leader::Handle(StopMessage&&) { stopping_ = true; }

void Leader::StartPlan(const StepPlan& plan) {
  if (engine_.n_started() == engine_.most_started()) FinishPlan();
  const Deadline start = std::chrono::steady_clock::now();
  if (world_.size() > 1) world_.Publish(Serialize(plan));
  engine_.Start(plan);
  last_progress_ = std::chrono::steady_clock::now();
  slowest_ = std::max(slowest_, last_progress_ - start);
}

// A result where there are no other stages.
std::optional<StepResult> Leader::FinishPlan() {
  const Deadline start = std::chrono::steady_clock::now();
  std::optional<StepResult> result = engine_.Finish();
  slowest_ = std::max(slowest_, std::chrono::steady_clock::now() - start);
  return result;
}

void Leader::Commit(const StepResult& result) {
  last_progress_ = std::chrono::steady_clock::now();
  scheduler_.Commit(result);
}

void Leader::CommitReports() {
  while (auto bytes = world_.PollReport()) Commit(ParseResult(*bytes));
}

void Leader::Await(bool expect_result) {
  if (!expect_result) return world_.Wait(kNoDeadline, false);
  AwaitStages(world_, last_progress_, step_timeout_ + kSlack * slowest_);
}

// Returns when the oldest plan may have a result; commits it where it is this rank's own.
void Leader::AwaitResult() {
  if (pp_ > 1) return Await(true);
  Commit(*FinishPlan());
}

void Leader::Run() {
  while (true) {
    DrainMailbox();
    if (stopping_) break;
    CommitReports();
    Report();
    if (scheduler_.n_in_flight() < scheduler_.wanted_in_flight()) {
      if (std::optional<StepPlan> plan = scheduler_.Next()) {
        StartPlan(*plan);
        continue;
      }
    }
    scheduler_.n_in_flight() > 0 ? AwaitResult() : Await(false);
  }
  while (CommitReports(), scheduler_.n_in_flight() > 0) AwaitResult();
  while (engine_.n_started() > 0) FinishPlan();
  if (world_.size() > 1) world_.Publish(Serialize(StepPlan{.kind = StepPlan::Kind::kStop}));
}

void Leader::Report() {
  StepReport report = scheduler_.TakeReport();
  const ReplicaStats& now = report.stats;
  const bool news = !report.deltas.empty() || now.running != reported_.running ||
                    now.waiting != reported_.waiting ||
                    now.kv_blocks_used != reported_.kv_blocks_used;
  if (!news) return;
  reported_ = now;
  if (sink_) sink_(std::move(report));
}

void RunFirstPlan(World& world, Engine& engine, const StepPlan& plan,
                  std::chrono::milliseconds step_timeout) {
  if (world.rank() != 0) return RunOnePlan(world, engine);
  const Deadline start = std::chrono::steady_clock::now();
  if (world.size() > 1) world.Publish(Serialize(plan));
  if (engine.Run(plan).has_value()) return;
  const Deadline done = std::chrono::steady_clock::now();
  while (!world.PollReport().has_value()) {
    AwaitStages(world, done, step_timeout + kSlack * (done - start));
  }
}

void RunOnePlan(World& world, Engine& engine) {
  engine.Start(ParsePlan(world.NextPublished()));
  if (auto result = engine.Finish()) world.Report(Serialize(*result));
}

void FollowLeader(World& world, Engine& engine) {
  while (true) {
    std::optional<std::vector<std::byte>> message;
    if (engine.n_started() == 0) {
      message = world.NextPublished();
    } else if (engine.n_started() < engine.most_started()) {
      message = world.PollPublished();
    }
    if (!message.has_value()) {
      if (auto result = engine.Finish()) world.Report(Serialize(*result));
      continue;
    }
    const StepPlan plan = ParsePlan(*message);
    if (plan.kind == StepPlan::Kind::kStop) break;
    engine.Start(plan);
  }
  while (engine.n_started() > 0) {
    if (auto result = engine.Finish()) world.Report(Serialize(*result));
  }
}

}  // namespace trireme
