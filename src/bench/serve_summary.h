// How requests went, as their client saw it, and the figures by which the literature compares
// servers: TTFT, TBT, end-to-end latency, output tokens/s, QPS and goodput (Agrawal et al. 2024,
// Zhong et al. 2024).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace trireme {

// One request. Times count from `due`, when it was to be sent, not from when it was: a slow server
// must not be spared the wait of requests that came late because of it (coordinated omission).
struct Timeline {
  using Time = std::chrono::steady_clock::time_point;

  Time due;
  std::optional<Time> first, last;  // when tokens came
  Time ended;
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;
  std::optional<double> server_queue_s;  // by its clock, arrival to hand-over; gRPC alone tells it
  std::vector<float> gaps_s;  // between tokens; those of one message share the time since the last
  std::string error_kind;     // such as RESOURCE_EXHAUSTED; empty: it succeeded
  std::string error;

  bool ok() const { return error_kind.empty(); }

  // `n` tokens came in one message.
  void Tokens(Time now, int32_t n);

  double TtftSeconds() const;  // `first` is set
  double EndToEndSeconds() const;
  // Mean over its tokens after the first; nothing below two tokens.
  std::optional<double> MeanTbtSeconds() const;
};

// Percentiles by nearest rank: the smallest sample that at least that share of samples do not
// exceed. All 0 if there is none.
struct Distribution {
  size_t n = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0;
};
Distribution Describe(std::vector<float> samples);

// What a request must keep to count as good: its TTFT, its mean TBT, its end-to-end latency.
struct GoodputLimits {
  std::optional<double> ttft_s, tbt_s, e2e_s;

  bool any() const { return ttft_s || tbt_s || e2e_s; }
  bool Keeps(const Timeline& request) const;
};

struct ErrorCount {
  size_t n = 0;
  std::string example;  // the first one's message
};

struct ServeSummary {
  size_t n_ok = 0, n_failed = 0;
  double seconds = 0;                 // from the begin to the last request's end
  double qps = 0;                     // requests that succeeded, per second
  std::optional<double> goodput_qps;  // of those, the ones within the limits
  double output_tokens_per_s = 0;
  int64_t prompt_tokens = 0, output_tokens = 0;
  Distribution ttft_s, tbt_s, e2e_s;         // of requests that succeeded; tbt_s: of all their gaps
  Distribution server_queue_s;               // of those that tell it
  std::map<std::string, ErrorCount> errors;  // by kind
};
ServeSummary Summarize(std::span<const Timeline> requests, Timeline::Time begin,
                       const GoodputLimits& limits);

}  // namespace trireme
