#include "bench/engine_bench.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iomanip>
#include <ostream>

#include "base/file.h"
#include "bench/device_probe.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kProbeBytes = size_t{512} << 20;  // of all ranks of a host

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What the arithmetic and the memory have to do.
struct Work {
  double layer_elements = 0;  // of the weights of all layers
  double head_elements = 0;
  double attention_flop_per_pair = 0;  // of all layers, for one query reading one key
  double weight_bytes = 0;             // that a step reads
  double kv_bytes_per_token = 0;       // of all layers

  double FlopPerToken() const { return 2 * (layer_elements + head_elements); }
};

Work WorkOf(const ModelConfig& c, DType weights, DType activations) {
  const double q = static_cast<double>(c.n_heads * c.head_dim);
  const double kv = static_cast<double>(c.n_kv_heads * c.head_dim);
  const double hidden = static_cast<double>(c.hidden), layers = static_cast<double>(c.n_layers);
  Work work = {layers * (hidden * (2 * q + 2 * kv) + 3 * hidden * static_cast<double>(c.ffn)),
               hidden * static_cast<double>(c.vocab), layers * 4 * q};
  work.weight_bytes =
      (work.layer_elements + work.head_elements) * static_cast<double>(SizeOf(weights));
  work.kv_bytes_per_token = layers * 2 * kv * static_cast<double>(SizeOf(activations));
  return work;
}

struct Machine {
  double bytes_per_s = 0;
  double flop_per_s = 0;
};

// The timed steps of a run.
struct Timed {
  double seconds = 0;
  int64_t steps = 0, tokens = 0;
  int64_t kv_tokens = 0;  // in the caches that the steps read
};

struct Case {
  std::string name;
  int batch = 0;  // 0: prefill
  // of one run
  Timed timed;
  double bytes = 0;  // weights and KV read
  double flop = 0;
  double device_seconds = 0;  // of a step, where the device need not wait; 0: not measured

  // One run beside the probes just before and just after it: the mean bandwidth, as a neighbour
  // changes it within seconds, and the better rate.
  struct Round {
    double seconds = 0;
    Machine machine;
  };
  std::vector<Round> rounds;

  double BoundSeconds(const Machine& m) const {
    return std::max(bytes / m.bytes_per_s, flop / m.flop_per_s);
  }
  double Share(const Round& round) const { return BoundSeconds(round.machine) / round.seconds; }
  double TokensIn(double seconds) const { return static_cast<double>(timed.tokens) / seconds; }

  // The round of the median share.
  Round Median() const {
    std::vector<Round> sorted = rounds;
    const auto middle = sorted.begin() + static_cast<ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end(),
                     [&](const Round& a, const Round& b) { return Share(a) < Share(b); });
    return *middle;
  }
  double StepSeconds() const { return Median().seconds / static_cast<double>(timed.steps); }
  double IdleShare() const { return 1 - device_seconds / StepSeconds(); }
};

class Bench {
 public:
  Bench(const EngineBenchOptions& options, World& world, ReplicaRank& rank, bool on_cuda)
      : options_(options), world_(world), rank_(rank), probe_(MakeProbe(on_cuda)) {}

  DeviceProbe& probe() { return *probe_; }

  // All ranks at once, so that they share the memory as they do in a step.
  Machine Probe() {
    world_.Exchange("");
    const double bandwidth = probe_->Bandwidth();
    world_.Exchange("");
    const double flop = probe_->Rate();
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

  int Threads() const {
    return options_.replica.threads > 0 ? options_.replica.threads
                                        : std::max(1, DefaultThreads() / world_.local_size());
  }

  // Sequences that give way to each other, or are refused, would not be what is asked for.
  absl::Status CheckRoom() const {
    const SchedulerOptions& scheduling = rank_.scheduler_options();
    const auto check = [&](int64_t n, int64_t length) {
      const int64_t blocks = n * (length / kKvBlockSize + 1);
      if (length <= scheduling.context_length && blocks <= scheduling.n_blocks) {
        return absl::OkStatus();
      }
      return InvalidArgument(n, n == 1 ? " sequence of " : " sequences of ", length,
                             " tokens: there is room for ", scheduling.n_blocks * kKvBlockSize,
                             " tokens, ", scheduling.context_length,
                             " in a sequence; use shorter ones or more --kv-cache-bytes");
    };
    RETURN_IF_ERROR(check(1, options_.prompt_tokens + 1));
    for (const int batch : options_.batches) {
      RETURN_IF_ERROR(check(batch, options_.decode_context + IdsOf(batch)));
    }
    return absl::OkStatus();
  }

  // Only rank 0; the others follow.
  Timed Run(const Case& c) {
    return Generate(c, [&](const StepPlan& plan) { rank_.engine().Start(plan); });
  }

  // Seconds of a decoding step by the device's clock, where it never waits for the host.
  double DeviceSeconds(const Case& c) {
    double seconds = 0;
    const Timed timed = Generate(c, [&](const StepPlan& plan) {
      seconds += probe_->cuda()->Seconds([&] { rank_.engine().Start(plan); });
    });
    return seconds / static_cast<double>(timed.steps);
  }

 private:
  using StartTimed = std::function<void(const StepPlan&)>;

  std::unique_ptr<DeviceProbe> MakeProbe(bool on_cuda) const {
    if (on_cuda) return MakeCudaDeviceProbe(rank_.mesh().ops(), options_.quick);
    const size_t bytes =
        (options_.quick ? size_t{1} << 20 : kProbeBytes) / static_cast<size_t>(world_.local_size());
    return MakeCpuProbe({.n_threads = Threads(),
                         .avx512 = options_.replica.avx512,
                         .bytes = bytes,
                         .bytes_at_once = bytes,
                         .seconds = options_.quick ? 0 : 0.3});
  }

  // Of each sequence that decodes: one comes with its prefill, more with those of the others.
  int IdsOf(int batch) const {
    const int64_t prompts = int64_t{batch} * options_.decode_context;
    const int64_t prefills = prompts / rank_.scheduler_options().max_batch_tokens;
    return options_.decode_steps + 1 + static_cast<int>(2 * prefills);
  }

  Timed Generate(const Case& c, const StartTimed& start) {
    if (c.batch == 0) {
      return Generate(1, options_.prompt_tokens, 1, start,
                      [](const StepPlan&, const Timed&) { return true; });
    }
    const int pp = rank_.split().pp();
    const int most = (c.batch + pp - 1) / pp, least = pp == 1 ? c.batch : 1;
    const int64_t wanted = int64_t{c.batch} * options_.decode_steps;
    return Generate(c.batch, options_.decode_context, IdsOf(c.batch), start,
                    [=](const StepPlan& plan, const Timed& timed) {
                      return plan.n_tokens() == plan.n_sequences() && plan.n_sequences() >= least &&
                             plan.n_sequences() <= most && timed.tokens < wanted;
                    });
  }

  // n sequences to their last token. What satisfies `is_timed` is started by `start`.
  template <typename IsTimed>
  Timed Generate(int n_sequences, int n_prompt, int max_tokens, const StartTimed& start,
                 const IsTimed& is_timed) {
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
    Timed timed;
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
      const bool counts = is_timed(*plan, timed);
      // What is timed has the device for itself.
      while (own && counts != counting && engine.n_started() > 0) await();
      if (counting) timed.seconds += SecondsSince(last);
      counting = counts;
      last = Clock::now();
      if (world_.size() > 1) world_.Publish(Serialize(*plan));
      if (engine.n_started() == engine.most_started()) engine.Finish();
      counts ? start(*plan) : engine.Start(*plan);
      if (!counts) continue;
      ++timed.steps;
      timed.tokens += plan->n_tokens();
      for (const int32_t length : plan->kv_lens) timed.kv_tokens += length;
    }
    while (engine.n_started() > 0) engine.Finish();
    if (counting) timed.seconds += SecondsSince(last);
    return timed;
  }

  static int DefaultThreads() {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return CPU_COUNT(&set);
  }

  const EngineBenchOptions& options_;
  World& world_;
  ReplicaRank& rank_;
  std::unique_ptr<DeviceProbe> probe_;
};

// What the other ranks do while rank 0 runs a case.
void FollowCase(World& world, ReplicaRank& rank) {
  FollowLeader(world, rank.engine(), std::chrono::milliseconds::max());
}

void EndCase(World& world) {
  if (world.size() > 1) world.Publish(Serialize(StepPlan{.kind = StepPlan::Kind::kStop}));
}

void Print(const std::vector<Case>& cases, const DeviceProbe& probe, std::ostream& out) {
  char line[200];
  std::snprintf(line, sizeof(line), "%-18s %10s %10s %8s %12s %14s %10s\n", "case", "tokens/s",
                "bound", "share", (probe.bandwidth_name() + " GB/s").c_str(),
                (probe.rate_name() + " GFLOP/s").c_str(), "idle");
  out << line;
  for (const Case& c : cases) {
    const Case::Round median = c.Median();
    std::snprintf(line, sizeof(line), "%-18s %10.1f %10.1f %7.0f%% %12.1f %14.0f ", c.name.c_str(),
                  c.TokensIn(median.seconds), c.TokensIn(c.BoundSeconds(median.machine)),
                  100 * c.Share(median), median.machine.bytes_per_s * 1e-9,
                  median.machine.flop_per_s * 1e-9);
    out << line;
    if (c.device_seconds > 0) {
      std::snprintf(line, sizeof(line), "%9.1f%%", 100 * c.IdleShare());
      out << line;
    }
    out << "\n";
  }
  out.flush();
}

absl::Status WriteJson(const EngineBenchOptions& options, const std::vector<Case>& cases,
                       const ReplicaInfo& info, const Work& work, const DeviceProbe& probe) {
  nlohmann::ordered_json json = {{"device", info.device},
                                 {"build_id", options.replica.build_id},
                                 {"exact", options.replica.exact},
                                 {"shape", info.model},
                                 {"weights", info.dtype},
                                 {"activations", info.activations},
                                 {"tp", info.tp},
                                 {"pp", info.pp},
                                 {"weight_bytes", work.weight_bytes},
                                 {"bandwidth_of", probe.bandwidth_name()},
                                 {"rate_of", probe.rate_name()}};
  for (const Case& c : cases) {
    const Case::Round median = c.Median();
    nlohmann::ordered_json one = {
        {"name", c.name},
        {"batch", c.batch},
        {"context", c.batch == 0 ? options.prompt_tokens : options.decode_context},
        {"steps", c.timed.steps},
        {"tokens", c.timed.tokens},
        {"seconds", median.seconds},
        {"bytes", c.bytes},
        {"flop", c.flop},
        {"bytes_per_s", median.machine.bytes_per_s},
        {"flop_per_s", median.machine.flop_per_s},
        {"tokens_per_s", c.TokensIn(median.seconds)},
        {"bound_tokens_per_s", c.TokensIn(c.BoundSeconds(median.machine))}};
    if (c.device_seconds > 0) {
      one["device_seconds_per_step"] = c.device_seconds;
      one["idle_share"] = c.IdleShare();
    }
    json["cases"].push_back(std::move(one));
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
  ASSIGN_OR_RETURN(const DeviceKind kind, Device::Choose(options.replica.device));
  const Clock::time_point start = Clock::now();
  ASSIGN_OR_RETURN(auto rank, ReplicaRank::Load(options.replica, world));
  const double load_seconds = SecondsSince(start);

  Bench bench(options, world, *rank, kind == DeviceKind::kCuda);
  RETURN_IF_ERROR(bench.CheckRoom());
  const bool alone = world.size() == 1 && bench.probe().cuda() != nullptr;
  const Work work = WorkOf(rank->config(), rank->dtype(), rank->activations());
  std::vector<Case> cases = {{.name = StrCat("prefill ", options.prompt_tokens)}};
  for (int batch : options.batches) {
    cases.push_back({.name = StrCat("decode, batch ", batch), .batch = batch});
  }
  Machine after = bench.Probe();
  // The first round, not counted, records the steps that a device replays.
  for (int round = alone ? -1 : 0; round < options.rounds; ++round) {
    for (Case& c : cases) {
      if (world.rank() != 0) {
        FollowCase(world, *rank);
        after = bench.Probe();
        continue;
      }
      const Machine before = after;
      c.timed = bench.Run(c);
      EndCase(world);
      after = bench.Probe();
      if (round < 0) continue;
      c.rounds.push_back({c.timed.seconds,
                          {(before.bytes_per_s + after.bytes_per_s) / 2,
                           std::max(before.flop_per_s, after.flop_per_s)}});
    }
  }
  if (world.rank() != 0) return absl::OkStatus();
  for (Case& c : cases) {
    const auto tokens = static_cast<double>(c.timed.tokens);
    const auto kv_tokens = static_cast<double>(c.timed.kv_tokens);
    c.bytes = work.weight_bytes * static_cast<double>(c.timed.steps);
    if (c.batch == 0) {
      c.flop = 2 * work.layer_elements * tokens + 2 * work.head_elements +
               work.attention_flop_per_pair * tokens * (tokens + 1) / 2;
      continue;
    }
    c.bytes += work.kv_bytes_per_token * kv_tokens;
    c.flop = work.FlopPerToken() * tokens + work.attention_flop_per_pair * kv_tokens;
    if (alone) c.device_seconds = bench.DeviceSeconds(c);
  }
  const ReplicaInfo& info = rank->replica().info();
  out << info.model << ", " << info.dtype << " weights, " << info.activations << " activations, tp "
      << info.tp << " pp " << info.pp << ", " << bench.Threads() << " threads a rank, "
      << info.device << "; loaded in " << std::fixed << std::setprecision(2) << load_seconds
      << " s\n";
  Print(cases, bench.probe(), out);
  if (options.json.empty()) return absl::OkStatus();
  return WriteJson(options, cases, info, work, bench.probe());
}

}  // namespace trireme
