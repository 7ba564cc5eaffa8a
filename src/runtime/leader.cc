#include "runtime/leader.h"

#include <algorithm>
#include <utility>

namespace trireme {
namespace {

// How many times as long as this stage the others may take for a plan, the timeout aside.
constexpr int kSlack = 8;

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

std::optional<StepResult> Leader::RunPlan(const StepPlan& plan) {
  const Deadline start = std::chrono::steady_clock::now();
  if (world_.size() > 1) world_.Publish(Serialize(plan));
  std::optional<StepResult> result = engine_.Run(plan);
  last_progress_ = std::chrono::steady_clock::now();
  slowest_ = std::max(slowest_, last_progress_ - start);
  return result;
}

void Leader::Commit(const StepResult& result) {
  last_progress_ = std::chrono::steady_clock::now();
  scheduler_.Commit(result);
}

void Leader::CommitReports() {
  while (auto bytes = world_.PollReport()) Commit(ParseResult(*bytes));
}

// Sleeps until there may be news; with plans in flight, not longer than the other stages may take:
// they are balanced, so each takes about as long as this one.
void Leader::Await(bool expect_result) {
  if (!expect_result) return world_.Wait(kNoDeadline, false);
  const auto longest = step_timeout_ + kSlack * slowest_;
  if (std::chrono::steady_clock::now() >= last_progress_ + longest) {
    EndJob(StrCat("no result from the last stage for ",
                  std::chrono::duration_cast<std::chrono::milliseconds>(longest).count(),
                  " ms: a rank of another stage hangs or is out of reach"));
  }
  world_.Wait(last_progress_ + longest, true);
}

void Leader::Run() {
  while (true) {
    DrainMailbox();
    if (stopping_) break;
    CommitReports();
    Report();
    if (scheduler_.n_in_flight() < pp_) {
      if (std::optional<StepPlan> plan = scheduler_.Next()) {
        if (std::optional<StepResult> result = RunPlan(*plan)) Commit(*result);
        continue;
      }
    }
    Await(scheduler_.n_in_flight() > 0);
  }
  while (CommitReports(), scheduler_.n_in_flight() > 0) Await(true);
  if (world_.size() > 1) world_.Publish(Serialize(StepPlan{.kind = StepPlan::Kind::kStop}));
}

void Leader::WarmUp() {
  StepPlan plan{.id = -1};
  plan.tokens = {0};
  plan.positions = {0};
  plan.slots = {0};
  plan.q_starts = {0, 1};
  plan.kv_lens = {1};
  plan.block_table = {0};
  plan.max_blocks = 1;
  plan.samples.push_back({.row = 0, .params = {.temperature = 0}});
  if (RunPlan(plan).has_value()) return;
  while (!world_.PollReport().has_value()) Await(true);
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

bool RunOnePlan(World& world, Engine& engine) {
  const StepPlan plan = ParsePlan(world.NextPublished());
  if (plan.kind == StepPlan::Kind::kStop) return false;
  if (auto result = engine.Run(plan)) world.Report(Serialize(*result));
  return true;
}

void FollowLeader(World& world, Engine& engine) {
  while (RunOnePlan(world, engine)) {
  }
}

}  // namespace trireme
