#include "bench/serve_bench.h"

#include <condition_variable>
#include <cstdio>
#include <deque>
#include <iomanip>
#include <mutex>
#include <ostream>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/file.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
using Time = Timeline::Time;

// Prompts are drawn from what a tokenizer makes of this: ids that any model of a language has.
constexpr char kWords[] =
    "The quick brown fox jumps over the lazy dog. It was a bright cold day in April, and the "
    "clocks were striking thirteen. Pack my box with five dozen liquor jugs; how vexingly quick "
    "daft zebras jump! She had been forced into prudence in her youth, she learned romance as she "
    "grew older.";

constexpr int kWarmupConcurrency = 16;

Clock::duration Interval(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// Requests under way and those that have ended.
class Traffic {
 public:
  Traffic(Target& target, std::string name, bool progress)
      : target_(target), name_(std::move(name)), progress_(progress) {}

  void Send(LoadRequest request, Time due) {
    Timeline* timeline;
    {
      std::lock_guard lock(mutex_);
      timeline = &timelines_.emplace_back();
      timeline->due = due;
      ++n_running_;
    }
    target_.Send(std::move(request), timeline, [this, timeline] { Ended(*timeline); });
  }

  // Waits until fewer than `n` requests run, or the time is `until`.
  void WaitBelow(size_t n, Time until = Time::max()) {
    std::unique_lock lock(mutex_);
    while (n_running_ >= n && Clock::now() < until) {
      news_.wait_until(lock, std::min(until, ShowProgress()));
    }
  }
  void WaitUntil(Time until) { WaitBelow(0, until); }

  // Once no request runs.
  std::vector<Timeline> Take() {
    WaitBelow(1);
    std::lock_guard lock(mutex_);
    if (progress_) std::fprintf(stderr, "\r\033[K");
    return {std::make_move_iterator(timelines_.begin()), std::make_move_iterator(timelines_.end())};
  }

 private:
  void Ended(const Timeline& timeline) {
    std::lock_guard lock(mutex_);
    --n_running_;
    n_failed_ += !timeline.ok();
    n_tokens_ += timeline.output_tokens;
    news_.notify_one();
  }

  // Returns when to show it next.
  Time ShowProgress() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!progress_) return Time::max();
    const Time now = Clock::now();
    if (now < next_progress_) return next_progress_;
    std::fprintf(stderr, "\r\033[K%s: %zu sent, %zu running, %zu failed, %lld output tokens",
                 name_.c_str(), timelines_.size(), n_running_, n_failed_,
                 static_cast<long long>(n_tokens_));
    std::fflush(stderr);
    return next_progress_ = now + std::chrono::milliseconds(500);
  }

  Target& target_;
  const std::string name_;
  const bool progress_;
  std::mutex mutex_;
  std::condition_variable news_;  // a request has ended
  std::deque<Timeline> timelines_ ABSL_GUARDED_BY(mutex_);
  size_t n_running_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t n_failed_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t n_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  Time next_progress_ ABSL_GUARDED_BY(mutex_);
};

// When a run's requests are sent.
struct Arrivals {
  double rate = 0;      // per second, or
  int concurrency = 0;  // clients; neither: at the trace's times

  std::string Name() const {
    if (rate > 0) return StrCat("rate ", rate);
    return concurrency > 0 ? StrCat("concurrency ", concurrency) : "trace";
  }
};

class ServeBench {
 public:
  ServeBench(const ServeBenchOptions& options, Target& target, Load load)
      : options_(options), target_(target), load_(std::move(load)) {}

  ServeSummary Run(const Arrivals& arrivals) {
    WarmUp();
    load_.Rewind();
    Traffic traffic(target_, arrivals.Name(), options_.progress);
    const Time begin = Clock::now();
    arrivals.concurrency > 0 ? RunClosed(arrivals, begin, traffic)
                             : RunOpen(arrivals, begin, traffic);
    return Summarize(traffic.Take(), begin, options_.goodput);
  }

 private:
  void WarmUp() {
    Traffic traffic(target_, "warm-up", options_.progress);
    for (size_t i = 0; i < options_.warmup; ++i) {
      traffic.WaitBelow(kWarmupConcurrency);
      traffic.Send(load_.Next(), Clock::now());
    }
    traffic.Take();
  }

  // Whether another request is to be sent at `due`, after `n_sent`.
  bool GoesOn(size_t n_sent, Time begin, Time due) const {
    if (options_.duration_s > 0) return due < begin + Interval(options_.duration_s);
    return n_sent < options_.requests;
  }

  void RunOpen(const Arrivals& arrivals, Time begin, Traffic& traffic) {
    const std::vector<TraceEntry>& trace = options_.load.trace;
    Time due = begin;
    for (size_t n = 0;; ++n) {
      if (arrivals.rate > 0) {
        due += Interval(load_.NextInterval(arrivals.rate));
      } else if (n < trace.size()) {
        due = begin + Interval(*trace[n].at_s - *trace[0].at_s);
      } else {
        return;
      }
      if (!GoesOn(n, begin, due)) return;
      traffic.WaitUntil(due);
      traffic.Send(load_.Next(), due);
    }
  }

  void RunClosed(const Arrivals& arrivals, Time begin, Traffic& traffic) {
    for (size_t n = 0;; ++n) {
      traffic.WaitBelow(static_cast<size_t>(arrivals.concurrency));
      const Time due = Clock::now();
      if (!GoesOn(n, begin, due)) return;
      traffic.Send(load_.Next(), due);
    }
  }

  const ServeBenchOptions& options_;
  Target& target_;
  Load load_;
};

std::vector<Arrivals> Runs(const ServeBenchOptions& options) {
  std::vector<Arrivals> runs;
  for (double rate : options.rates) runs.push_back({.rate = rate});
  for (int concurrency : options.concurrencies) runs.push_back({.concurrency = concurrency});
  if (!runs.empty()) return runs;
  const auto& trace = options.load.trace;
  const bool has_times = !trace.empty() && trace.front().at_s.has_value();
  return {has_times ? Arrivals{} : Arrivals{.concurrency = 1}};
}

void PrintHead(std::ostream& out) {
  out << std::setw(65) << "" << std::setw(28) << "TTFT ms" << std::setw(28) << "TBT ms"
      << std::setw(28) << "end-to-end ms"
      << "\n"
      << std::left << std::setw(17) << "load" << std::right << std::setw(6) << "ok" << std::setw(7)
      << "failed" << std::setw(9) << "QPS" << std::setw(9) << "goodput" << std::setw(17)
      << "output tokens/s";
  for (int i = 0; i < 3; ++i) {
    out << std::setw(10) << "p50" << std::setw(9) << "p90" << std::setw(9) << "p99";
  }
  out << "\n";
}

void PrintRow(const Arrivals& arrivals, const ServeSummary& run, std::ostream& out) {
  out << std::left << std::setw(17) << arrivals.Name() << std::right << std::fixed
      << std::setprecision(2) << std::setw(6) << run.n_ok << std::setw(7) << run.n_failed
      << std::setw(9) << run.qps << std::setw(9);
  run.goodput_qps.has_value() ? out << *run.goodput_qps : out << "-";
  out << std::setw(17) << std::setprecision(1) << run.output_tokens_per_s;
  for (const Distribution* d : {&run.ttft_s, &run.tbt_s, &run.e2e_s}) {
    out << std::setw(10) << d->p50 * 1e3 << std::setw(9) << d->p90 * 1e3 << std::setw(9)
        << d->p99 * 1e3;
  }
  out << "\n";
  for (const auto& [kind, count] : run.errors) {
    out << "  " << count.n << " failed: " << kind << ": " << count.example << "\n";
  }
  out.flush();
}

Json ToJson(const Distribution& d) {
  return {{"mean", d.mean}, {"p50", d.p50}, {"p90", d.p90}, {"p99", d.p99}};
}

Json ToJson(const Arrivals& arrivals, const ServeSummary& run) {
  Json json = {{"load", arrivals.Name()}};
  if (arrivals.rate > 0) json["rate"] = arrivals.rate;
  if (arrivals.concurrency > 0) json["concurrency"] = arrivals.concurrency;
  json["seconds"] = run.seconds;
  json["ok"] = run.n_ok;
  json["failed"] = run.n_failed;
  json["errors"] = Json::object();
  for (const auto& [kind, count] : run.errors) {
    json["errors"][kind] = {{"n", count.n}, {"example", count.example}};
  }
  json["qps"] = run.qps;
  if (run.goodput_qps.has_value()) json["goodput_qps"] = *run.goodput_qps;
  json["output_tokens_per_s"] = run.output_tokens_per_s;
  json["prompt_tokens"] = run.prompt_tokens;
  json["output_tokens"] = run.output_tokens;
  json["ttft_s"] = ToJson(run.ttft_s);
  json["tbt_s"] = ToJson(run.tbt_s);
  json["e2e_s"] = ToJson(run.e2e_s);
  if (run.server_queue_s.n > 0) json["server_queue_s"] = ToJson(run.server_queue_s);
  return json;
}

absl::StatusOr<std::unique_ptr<Target>> Dial(const ServeBenchOptions& options) {
  if (options.http) return MakeHttpTarget(options.target);
  return MakeGrpcTarget(options.target);
}

}  // namespace

absl::Status RunServeBench(const ServeBenchOptions& options, std::ostream& out) {
  ASSIGN_OR_RETURN(std::unique_ptr<Target> target, Dial(options));
  ASSIGN_OR_RETURN(std::vector<int32_t> words, target->Tokenize(kWords));
  if (words.empty()) return FailedPrecondition("the server's tokenizer makes no ids of a text");
  ServeBench bench(options, *target, Load(options.load, std::move(words)));
  Json json = {{"server", options.target.address},
               {"protocol", options.http ? "http" : "grpc"},
               {"seed", options.load.seed},
               {"runs", Json::array()}};
  size_t n_ok = 0;
  PrintHead(out);
  for (const Arrivals& arrivals : Runs(options)) {
    const ServeSummary summary = bench.Run(arrivals);
    n_ok += summary.n_ok;
    PrintRow(arrivals, summary, out);
    json["runs"].push_back(ToJson(arrivals, summary));
  }
  if (!options.json.empty()) RETURN_IF_ERROR(WriteFile(options.json, json.dump(2) + "\n"));
  if (n_ok == 0) return Unavailable("no request succeeded");
  return absl::OkStatus();
}

}  // namespace trireme
