#include "runtime/leader.h"

#include <algorithm>
#include <utility>

namespace trireme {
namespace {

using std::chrono::milliseconds;

// How many times as long as this stage the others may take for a plan, the timeout aside.
constexpr int kSlack = 8;

// From telling that a sequence is alone to its first plan, which this process may not outlive: for
// the news to have left it.
constexpr milliseconds kBeforeAlone(100);

// When idle, after how much of the step timeout a canary runs.
constexpr int kCanariesPerTimeout = 4;

milliseconds Ms(std::chrono::steady_clock::duration d) {
  return std::chrono::duration_cast<milliseconds>(d);
}

// Sleeps until there may be news; not longer than the other stages may take: they are balanced, so
// each takes about as long as this one.
void AwaitStages(World& world, const std::string& others, Deadline last_progress,
                 milliseconds longest) {
  if (std::chrono::steady_clock::now() >= last_progress + longest) {
    EndJob(StrCat("no result from the other stages (", others, ") for ", longest.count(),
                  " ms: one of these ranks hangs or is out of reach"));
  }
  world.Wait(last_progress + longest, true);
}

void StartNoted(Engine& engine, const StepPlan& plan) {
  NoteWork({plan.id, plan.n_sequences(), plan.n_tokens()});
  engine.Start(plan);
}

std::optional<StepResult> FinishNoted(Engine& engine) {
  std::optional<StepResult> result = engine.Finish();
  if (engine.n_started() == 0) NoteWorkDone();
  return result;
}

}  // namespace

class Leader::PostingLink : public Replica::Link {
 public:
  PostingLink(Leader& leader, uint64_t link) : leader_(leader), link_(link) {}
  ~PostingLink() override { leader_.Post(CloseMessage{link_}); }

  void Submit(SequenceRequest request) override {
    leader_.Post(SubmitMessage{link_, std::move(request)});
  }
  void Cancel(uint64_t id) override { leader_.Post(CancelMessage{link_, id}); }

 private:
  Leader& leader_;
  const uint64_t link_;
};

Leader::Leader(World& world, Engine& engine, const SchedulerOptions& options, StepPlan canary,
               milliseconds step_timeout, ReplicaInfo info)
    : world_(world),
      engine_(engine),
      pp_(options.pp),
      canary_(std::move(canary)),
      step_timeout_(step_timeout),
      info_(std::move(info)),
      others_(OtherStages(info_.hosts, info_.tp)),
      scheduler_(options),
      links_(info_.credits) {}

void Leader::Post(Message message) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    mailbox_.push_back(std::move(message));
  }
  world_.Wake();
}

std::unique_ptr<Replica::Link> Leader::Connect(Sink sink) {
  const uint64_t link = ++last_link_;
  Post(OpenMessage{link, std::move(sink)});
  return std::make_unique<PostingLink>(*this, link);
}

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

void Leader::Handle(OpenMessage&& message) { links_.Open(message.link, std::move(message.sink)); }

void Leader::Handle(SubmitMessage&& message) {
  if (links_.Add(message.link, message.request)) scheduler_.Submit(std::move(message.request));
}

void Leader::Handle(CancelMessage&& message) {
  scheduler_.Cancel(links_.Find(message.link, message.id));
}

void Leader::Handle(CloseMessage&& message) {
  Report();
  for (uint64_t number : links_.Close(message.link)) scheduler_.Cancel(number);
}

void Leader::Handle(StopMessage&&) { stopping_ = true; }

void Leader::StartPlan(const StepPlan& plan) {
  if (engine_.n_started() == engine_.most_started()) FinishPlan();
  const Deadline start = std::chrono::steady_clock::now();
  if (world_.size() > 1) world_.Publish(Serialize(plan));
  StartNoted(engine_, plan);
  last_progress_ = std::chrono::steady_clock::now();
  slowest_ = std::max(slowest_, last_progress_ - start);
}

// A result where there are no other stages.
std::optional<StepResult> Leader::FinishPlan() {
  const Deadline start = std::chrono::steady_clock::now();
  std::optional<StepResult> result = FinishNoted(engine_);
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
  if (expect_result) {
    const milliseconds longest = Ms(step_timeout_ + kSlack * slowest_);
    watch_->Turn(longest);
    return AwaitStages(world_, others_, last_progress_, longest);
  }
  const Deadline canary = last_progress_ + step_timeout_ / kCanariesPerTimeout;
  const Deadline now = std::chrono::steady_clock::now();
  if (now >= canary) return RunCanary();
  world_.Wait(hold_ > now ? std::min(hold_, canary) : canary, false);
}

void Leader::RunCanary() {
  while (engine_.n_started() > 0) FinishPlan();
  RunPlanAlone(world_, engine_, canary_, step_timeout_, others_,
               [this](milliseconds longest) { watch_->Turn(longest); });
  last_progress_ = std::chrono::steady_clock::now();
}

// Returns when the oldest plan may have a result; commits it where it is this rank's own.
void Leader::AwaitResult() {
  if (pp_ > 1) return Await(true);
  Commit(*FinishPlan());
}

void Leader::Run() {
  watch_.emplace(
      step_timeout_, [this] { return engine_.n_moves(); },
      [this] { EndJob(StrCat("hangs: nothing has moved for ", step_timeout_.count(), " ms")); });
  while (true) {
    watch_->Turn();
    DrainMailbox();
    if (stopping_) break;
    CommitReports();
    Report();
    const bool held = std::chrono::steady_clock::now() < hold_;
    if (!held && scheduler_.n_in_flight() < scheduler_.wanted_in_flight()) {
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
  watch_.reset();
}

void Leader::Report() {
  StepReport report = scheduler_.TakeReport();
  const ReplicaStats& now = report.stats;
  const bool news = now.running != reported_.running || now.waiting != reported_.waiting ||
                    now.kv_blocks_used != reported_.kv_blocks_used;
  reported_ = now;
  if (std::ranges::any_of(report.deltas, &SequenceDelta::alone)) {
    hold_ = std::chrono::steady_clock::now() + kBeforeAlone;
  }
  links_.Report(std::move(report), news, scheduler_.n_free_tokens());
}

std::string OtherStages(const std::vector<std::string>& hosts, int tp) {
  std::vector<std::string> parts;
  for (size_t first = tp, next; first < hosts.size(); first = next) {
    next = first + 1;
    while (next < hosts.size() && hosts[next] == hosts[first]) ++next;
    parts.push_back(next == first + 1
                        ? StrCat("rank ", first, " on ", hosts[first])
                        : StrCat("ranks ", first, "-", next - 1, " on ", hosts[first]));
  }
  return Join(parts, ", ");
}

void RunPlanAlone(World& world, Engine& engine, const StepPlan& plan, milliseconds step_timeout,
                  const std::string& others, const std::function<void(milliseconds)>& waits) {
  if (world.rank() != 0) return RunOnePlan(world, engine);
  const Deadline start = std::chrono::steady_clock::now();
  if (world.size() > 1) world.Publish(Serialize(plan));
  StartNoted(engine, plan);
  if (FinishNoted(engine).has_value()) return;
  const Deadline done = std::chrono::steady_clock::now();
  const milliseconds longest = Ms(step_timeout + kSlack * (done - start));
  if (waits) waits(longest);
  while (!world.PollReport().has_value()) AwaitStages(world, others, done, longest);
}

void RunOnePlan(World& world, Engine& engine) {
  StartNoted(engine, ParsePlan(world.NextPublished()));
  if (auto result = FinishNoted(engine)) world.Report(Serialize(*result));
}

void FollowLeader(World& world, Engine& engine, milliseconds patience) {
  while (true) {
    std::optional<std::vector<std::byte>> message;
    if (engine.n_started() == 0) {
      message = world.NextPublished(patience);
    } else if (engine.n_started() < engine.most_started()) {
      message = world.PollPublished();
    }
    if (!message.has_value()) {
      if (auto result = FinishNoted(engine)) world.Report(Serialize(*result));
      continue;
    }
    const StepPlan plan = ParsePlan(*message);
    if (plan.kind == StepPlan::Kind::kStop) break;
    StartNoted(engine, plan);
  }
  while (engine.n_started() > 0) {
    if (auto result = FinishNoted(engine)) world.Report(Serialize(*result));
  }
}

}  // namespace trireme
