#include "harness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <thread>

namespace trireme {
namespace {

std::string Source(const std::string& path) { return std::string(TRIREME_SOURCE_DIR "/") + path; }

class LogitsRecorder {
 public:
  void Record(const StepPlan& plan, Ops& ops, Tensor logits, const Split& split) {
    std::vector<float> read(static_cast<size_t>(logits.size()));
    ops.Download(read.data(), logits);
    ops.Synchronize();
    std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < plan.samples.size(); ++i) {
      const SampleRow& row = plan.samples[i];
      if (row.given >= 0) continue;
      std::vector<float>& all = logits_[{row.params.seed, row.token_index}];
      all.resize(static_cast<size_t>(split.n_vocab()));
      const float* here = read.data() + static_cast<int64_t>(i) * split.vocab().size();
      std::copy(here, here + split.vocab().size(), all.begin() + split.vocab().begin);
    }
  }
  std::map<std::pair<uint64_t, uint32_t>, std::vector<float>> Take() { return std::move(logits_); }

 private:
  std::mutex mutex_;  // guards logits_: ranks write their parts
  std::map<std::pair<uint64_t, uint32_t>, std::vector<float>> logits_;
};

void RunPlan(ReplicaRank& rank, const StepPlan& plan, LogitsRecorder& recorder,
             std::optional<StepResult>* result) {
  *result = rank.engine().Run(plan);
  if (rank.split().last_stage() && !plan.samples.empty()) {
    recorder.Record(plan, rank.mesh().ops(), rank.engine().logits(), rank.split());
  }
}

void Follow(World& world, ReplicaRank& rank, LogitsRecorder& recorder) {
  while (true) {
    const StepPlan plan = ParsePlan(world.NextPublished());
    if (plan.kind == StepPlan::Kind::kStop) return;
    std::optional<StepResult> result;
    RunPlan(rank, plan, recorder, &result);
    if (result) world.Report(Serialize(*result));
  }
}

void Lead(World& world, ReplicaRank& rank, const SchedulerOptions& options,
          std::vector<Arrival>& arrivals, LogitsRecorder& recorder, Outcome* outcome) {
  Scheduler scheduler(options);
  const Traffic before = rank.mesh().tp_traffic();
  size_t next = 0;
  std::deque<StepResult> own;  // of plans that are in flight to the scheduler still
  auto read_report = [&] {
    StepReport report = scheduler.TakeReport();
    for (const SequenceDelta& delta : report.deltas) {
      EXPECT_EQ(delta.error, "");
      auto& ids = outcome->ids[delta.id];
      ids.insert(ids.end(), delta.ids.begin(), delta.ids.end());
      const auto append = [&](auto& all, const std::vector<TokenLogprobs>& more) {
        if (!more.empty()) all[delta.id].insert(all[delta.id].end(), more.begin(), more.end());
      };
      append(outcome->logprobs, delta.logprobs);
      append(outcome->prompt_logprobs, delta.prompt_logprobs);
    }
    outcome->stats = report.stats;
  };
  while (next < arrivals.size() || scheduler.has_work()) {
    while (next < arrivals.size() &&
           (arrivals[next].before_step <= outcome->steps || !scheduler.has_work())) {
      scheduler.Submit(arrivals[next++].request);
    }
    while (auto bytes = world.PollReport()) scheduler.Commit(ParseResult(*bytes));
    if (scheduler.n_in_flight() < scheduler.wanted_in_flight()) {
      if (auto plan = scheduler.Next()) {
        ++outcome->steps;
        outcome->sequence_parallel_steps += plan->sequence_parallel;
        if (world.size() > 1) world.Publish(Serialize(*plan));
        std::optional<StepResult> result;
        RunPlan(rank, *plan, recorder, &result);
        if (result) own.push_back(std::move(*result));
        continue;
      }
    }
    if (!own.empty()) {
      scheduler.Commit(own.front());
      own.pop_front();
    } else if (scheduler.n_in_flight() > 0) {
      world.Wait(kNoDeadline, true);
    }
    read_report();
  }
  read_report();
  if (world.size() > 1) world.Publish(Serialize(StepPlan{.kind = StepPlan::Kind::kStop}));
  const Traffic& after = rank.mesh().tp_traffic();
  outcome->traffic = {after.reduce_bytes - before.reduce_bytes,
                      after.gather_bytes - before.gather_bytes,
                      after.point_to_point_bytes - before.point_to_point_bytes};
}

}  // namespace

Outcome RunOnThreads(const ReplicaOptions& options, std::vector<Arrival> arrivals,
                     const Scheduling& scheduling) {
  const int n = options.layout.n_ranks();
  std::vector<std::unique_ptr<World>> worlds;
  if (n == 1) {
    worlds.push_back(MakeSingleWorld());
  } else {
    worlds = MakeThreadWorlds(n);
  }
  LogitsRecorder recorder;
  Outcome outcome;
  auto run = [&](int r) {
    ReplicaOptions mine = options;
    if (mine.threads == 0) mine.threads = 1;
    auto rank = ReplicaRank::Load(mine, *worlds[r]);
    ASSERT_TRUE(rank.ok()) << rank.status();
    if (r == 0) {
      SchedulerOptions schedule = (*rank)->scheduler_options();
      schedule.sequence_parallel_tokens =
          scheduling.sequence_parallel_tokens.value_or(schedule.sequence_parallel_tokens);
      schedule.ahead = scheduling.ahead.value_or(schedule.ahead);
      Lead(*worlds[0], **rank, schedule, arrivals, recorder, &outcome);
    } else {
      Follow(*worlds[r], **rank, recorder);
    }
  };
  std::vector<std::thread> threads;
  for (int r = 1; r < n; ++r) threads.emplace_back(run, r);
  run(0);
  for (std::thread& thread : threads) thread.join();
  outcome.logits = recorder.Take();
  return outcome;
}

std::string GoldenModel(const std::string& name) { return Source("tests/golden/logits/" + name); }

std::string BundledModel() { return Source("examples/models/austen"); }

}  // namespace trireme
