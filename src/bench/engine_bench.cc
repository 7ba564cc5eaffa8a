#include "bench/engine_bench.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iomanip>
#include <ostream>

#include "base/file.h"
#include "bench/machine_probe.h"
#include "kernels/cpu/memory.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kProbeBytes = size_t{512} << 20;  // of all ranks of a host

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Per token and layer: the multiply-adds of the weights, and of the LM head for a sampled row.
struct Work {
  double layer_elements = 0;  // of all layers
  double head_elements = 0;
  double attention_flop_per_pair = 0;  // of all layers, for one query reading one key
};

Work WorkOf(const ModelConfig& c) {
  const double q = static_cast<double>(c.n_heads * c.head_dim);
  const double kv = static_cast<double>(c.n_kv_heads * c.head_dim);
  const double hidden = static_cast<double>(c.hidden), layers = static_cast<double>(c.n_layers);
  return {layers * (hidden * (2 * q + 2 * kv) + 3 * hidden * static_cast<double>(c.ffn)),
          hidden * static_cast<double>(c.vocab), layers * 4 * q};
}

struct Machine {
  double bytes_per_s = 0;
  double flop_per_s = 0;
};

struct Case {
  std::string name;
  double tokens = 0;  // per run
  double bytes = 0;   // per run, weights read
  double flop = 0;    // per run

  // One run beside the probes just before and just after it: the mean bandwidth, as a neighbour
  // changes it within seconds, and the better FMA peak.
  struct Round {
    double seconds = 0;
    Machine machine;
  };
  std::vector<Round> rounds;

  double BoundSeconds(const Machine& m) const {
    return std::max(bytes / m.bytes_per_s, flop / m.flop_per_s);
  }
  double Share(const Round& round) const { return BoundSeconds(round.machine) / round.seconds; }

  // The round of the median share.
  Round Median() const {
    std::vector<Round> sorted = rounds;
    const auto middle = sorted.begin() + static_cast<ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end(),
                     [&](const Round& a, const Round& b) { return Share(a) < Share(b); });
    return *middle;
  }
};

class Bench {
 public:
  Bench(const EngineBenchOptions& options, World& world, ReplicaRank& rank)
      : options_(options),
        world_(world),
        rank_(rank),
        memory_(cpu::AllocateZeroed(kProbeBytes / static_cast<size_t>(world.local_size()))) {
    std::fill_n(memory_.data(), memory_.bytes(), std::byte{1});
  }

  // All ranks at once, so that they share the memory as they do in a step.
  Machine Probe() {
    const int threads = Threads();
    world_.Exchange("");
    const double bandwidth = SustainedBandwidth(threads);
    world_.Exchange("");
    const double flop = FmaPeak(threads, options_.replica.avx512);
    Machine machine;
    for (const std::string& text : world_.Exchange(StrCat(bandwidth, " ", flop))) {
      std::istringstream in(text);
      double b = 0, f = 0;
      in >> b >> f;
      machine.bytes_per_s += b;
      machine.flop_per_s += f;
    }
    return machine;
  }

  // The mean over a while: a shared memory has bursts.
  double SustainedBandwidth(int threads) const {
    const Clock::time_point start = Clock::now();
    double sum = 0;
    int n = 0;
    for (; SecondsSince(start) < 0.3; ++n) {
      sum += ReadBandwidth({memory_.data(), memory_.bytes()}, threads);
    }
    return sum / n;
  }

  int Threads() const {
    return options_.replica.threads > 0 ? options_.replica.threads
                                        : std::max(1, DefaultThreads() / world_.local_size());
  }

  // n sequences to their last token. Only rank 0; the others follow. Returns seconds of the steps
  // that satisfy `timed`.
  template <typename Timed>
  double Generate(int n_sequences, int n_prompt, int max_tokens, const Timed& timed) {
    SchedulerOptions scheduling = rank_.scheduler_options();
    scheduling.prefix_cache = false;
    Scheduler scheduler(scheduling);
    for (int i = 0; i < n_sequences; ++i) {
      SequenceRequest request{.id = static_cast<uint64_t>(i + 1), .max_tokens = max_tokens};
      request.sampling.temperature = 0;
      for (int t = 0; t < n_prompt; ++t) {
        request.prompt_ids.push_back((i * 131 + t * 7) % static_cast<int>(rank_.config().vocab));
      }
      scheduler.Submit(std::move(request));
    }
    double seconds = 0;
    Clock::time_point last = Clock::now();
    auto commit = [&](const StepResult& result) {
      scheduler.Commit(result);
      scheduler.TakeReport();
    };
    bool counting = false;
    Engine& engine = rank_.engine();
    const bool own = rank_.split().pp() == 1;
    const auto await = [&] { own ? commit(*engine.Finish()) : world_.Wait(kNoDeadline, true); };
    while (scheduler.has_work()) {
      while (auto bytes = world_.PollReport()) commit(ParseResult(*bytes));
      std::optional<StepPlan> plan;
      if (scheduler.n_in_flight() < scheduler.wanted_in_flight()) plan = scheduler.Next();
      if (!plan) {
        if (scheduler.n_in_flight() > 0) await();
        continue;
      }
      const bool is_timed = timed(*plan);
      // What is timed has the device for itself.
      while (own && is_timed != counting && engine.n_started() > 0) await();
      if (counting) seconds += SecondsSince(last);
      counting = is_timed;
      last = Clock::now();
      if (world_.size() > 1) world_.Publish(Serialize(*plan));
      if (engine.n_started() == engine.most_started()) engine.Finish();
      engine.Start(*plan);
    }
    while (engine.n_started() > 0) engine.Finish();
    if (counting) seconds += SecondsSince(last);
    return seconds;
  }

  const EngineBenchOptions& options_;
  World& world_;
  ReplicaRank& rank_;
  Buffer memory_;  // what the bandwidth is measured on

 private:
  static int DefaultThreads() {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return CPU_COUNT(&set);
  }
};

// What the other ranks do while rank 0 runs a case.
void FollowCase(World& world, ReplicaRank& rank) { FollowLeader(world, rank.engine()); }

void EndCase(World& world) {
  if (world.size() > 1) world.Publish(Serialize(StepPlan{.kind = StepPlan::Kind::kStop}));
}

void Print(const std::vector<Case>& cases, std::ostream& out) {
  char line[200];
  std::snprintf(line, sizeof(line), "%-18s %10s %10s %8s %12s %14s\n", "case", "tokens/s", "bound",
                "share", "read GB/s", "FMA GFLOP/s");
  out << line;
  for (const Case& c : cases) {
    const Case::Round median = c.Median();
    std::snprintf(line, sizeof(line), "%-18s %10.1f %10.1f %7.0f%% %12.1f %14.0f\n", c.name.c_str(),
                  c.tokens / median.seconds, c.tokens / c.BoundSeconds(median.machine),
                  100 * c.Share(median), median.machine.bytes_per_s * 1e-9,
                  median.machine.flop_per_s * 1e-9);
    out << line;
  }
  out.flush();
}

absl::Status WriteJson(const EngineBenchOptions& options, const std::vector<Case>& cases,
                       const ReplicaInfo& info) {
  nlohmann::ordered_json json = {
      {"shape", info.model},   {"dtype", info.dtype}, {"activations", info.activations},
      {"device", info.device}, {"tp", info.tp},       {"pp", info.pp}};
  for (const Case& c : cases) {
    const Case::Round median = c.Median();
    json["cases"].push_back({{"name", c.name},
                             {"tokens_per_s", c.tokens / median.seconds},
                             {"bound_tokens_per_s", c.tokens / c.BoundSeconds(median.machine)},
                             {"read_bytes_per_s", median.machine.bytes_per_s},
                             {"fma_flop_per_s", median.machine.flop_per_s}});
  }
  return WriteFile(options.json, json.dump(2) + "\n");
}

}  // namespace

absl::Status RunEngineBench(const EngineBenchOptions& bench_options, World& world,
                            std::ostream& out) {
  EngineBenchOptions options = bench_options;
  const int most = *std::max_element(options.batches.begin(), options.batches.end());
  options.replica.max_rows = std::max(options.replica.max_rows, most);
  options.replica.max_batch_tokens =
      std::max({options.replica.max_batch_tokens, options.prompt_tokens, most});
  const Clock::time_point start = Clock::now();
  ASSIGN_OR_RETURN(auto rank, ReplicaRank::Load(options.replica, world));
  const double load_seconds = SecondsSince(start);

  Bench bench(options, world, *rank);
  const Work work = WorkOf(rank->config());
  const double weight_bytes = static_cast<double>(
      (work.layer_elements + work.head_elements) *
      static_cast<double>(SizeOf(options.replica.dtype.value_or(rank->config().dtype))));
  std::vector<Case> cases;
  const double n = options.prompt_tokens;
  cases.push_back({.name = StrCat("prefill ", options.prompt_tokens),
                   .tokens = n,
                   .bytes = weight_bytes,
                   .flop = 2 * work.layer_elements * n + 2 * work.head_elements +
                           work.attention_flop_per_pair * n * (n + 1) / 2});
  for (int batch : options.batches) {
    const double tokens = static_cast<double>(batch) * options.decode_steps;
    cases.push_back({.name = StrCat("decode, batch ", batch),
                     .tokens = tokens,
                     .bytes = weight_bytes * options.decode_steps,
                     .flop = 2 * (work.layer_elements + work.head_elements) * tokens});
  }
  Machine after = bench.Probe();
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < cases.size(); ++i) {
      if (world.rank() != 0) {
        FollowCase(world, *rank);
        after = bench.Probe();
        continue;
      }
      const Machine before = after;
      double seconds;
      if (i == 0) {
        seconds = bench.Generate(1, options.prompt_tokens, 1, [](const StepPlan&) { return true; });
      } else {
        const int batch = options.batches[i - 1];
        // Steps in which every sequence decodes; the first id comes with the prefill.
        const int rows = (batch + rank->split().pp() - 1) / rank->split().pp();
        seconds = bench.Generate(
            batch, options.decode_context, options.decode_steps + 1, [&](const StepPlan& plan) {
              return plan.n_tokens() == plan.n_sequences() && plan.n_sequences() <= rows;
            });
      }
      EndCase(world);
      after = bench.Probe();
      cases[i].rounds.push_back({seconds,
                                 {(before.bytes_per_s + after.bytes_per_s) / 2,
                                  std::max(before.flop_per_s, after.flop_per_s)}});
    }
  }
  if (world.rank() != 0) return absl::OkStatus();
  const ReplicaInfo& info = rank->replica().info();
  out << info.model << ", " << info.dtype << " weights, " << info.activations << " activations, tp "
      << info.tp << " pp " << info.pp << ", " << bench.Threads() << " threads a rank, "
      << info.device << "; loaded in " << std::fixed << std::setprecision(2) << load_seconds
      << " s\n";
  Print(cases, out);
  return options.json.empty() ? absl::OkStatus() : WriteJson(options, cases, info);
}

}  // namespace trireme
