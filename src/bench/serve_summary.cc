#include "bench/serve_summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace trireme {
namespace {

double Seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace

void Timeline::Tokens(Time now, int32_t n) {
  if (n < 1) return;
  output_tokens += n;
  if (last.has_value()) {
    gaps_s.insert(gaps_s.end(), static_cast<size_t>(n),
                  static_cast<float>(Seconds(now - *last) / n));
  } else {
    first = now;
  }
  last = now;
}

double Timeline::TtftSeconds() const { return Seconds(*first - due); }
double Timeline::EndToEndSeconds() const { return Seconds(ended - due); }

std::optional<double> Timeline::MeanTbtSeconds() const {
  if (output_tokens < 2 || !last.has_value()) return std::nullopt;
  return Seconds(*last - *first) / (output_tokens - 1);
}

Distribution Describe(std::vector<float> samples) {
  if (samples.empty()) return {};
  std::ranges::sort(samples);
  const auto n = static_cast<double>(samples.size());
  const auto percentile = [&](double share) {
    const double rank = std::ceil(share * n - 1e-9);  // 0.9 * 10 is a little more than 9
    return samples[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  return {.n = samples.size(),
          .mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n,
          .p50 = percentile(0.5),
          .p90 = percentile(0.9),
          .p99 = percentile(0.99)};
}

bool GoodputLimits::Keeps(const Timeline& request) const {
  const auto keeps = [](std::optional<double> limit, double value) {
    return !limit.has_value() || value <= *limit;
  };
  return request.ok() && request.first.has_value() && keeps(ttft_s, request.TtftSeconds()) &&
         keeps(tbt_s, request.MeanTbtSeconds().value_or(0)) &&
         keeps(e2e_s, request.EndToEndSeconds());
}

ServeSummary Summarize(std::span<const Timeline> requests, Timeline::Time begin,
                       const GoodputLimits& limits) {
  ServeSummary summary;
  std::vector<float> ttft, tbt, e2e, queue;
  size_t n_good = 0;
  for (const Timeline& request : requests) {
    summary.seconds = std::max(summary.seconds, Seconds(request.ended - begin));
    if (!request.ok()) {
      ++summary.n_failed;
      ErrorCount& count = summary.errors[request.error_kind];
      if (count.n++ == 0) count.example = request.error;
      continue;
    }
    ++summary.n_ok;
    n_good += limits.Keeps(request);
    summary.prompt_tokens += request.prompt_tokens;
    summary.output_tokens += request.output_tokens;
    if (request.first.has_value()) ttft.push_back(static_cast<float>(request.TtftSeconds()));
    e2e.push_back(static_cast<float>(request.EndToEndSeconds()));
    if (request.server_queue_s) queue.push_back(static_cast<float>(*request.server_queue_s));
    tbt.insert(tbt.end(), request.gaps_s.begin(), request.gaps_s.end());
  }
  if (summary.seconds > 0) {
    summary.qps = static_cast<double>(summary.n_ok) / summary.seconds;
    summary.output_tokens_per_s = static_cast<double>(summary.output_tokens) / summary.seconds;
    if (limits.any()) summary.goodput_qps = static_cast<double>(n_good) / summary.seconds;
  }
  summary.ttft_s = Describe(std::move(ttft));
  summary.tbt_s = Describe(std::move(tbt));
  summary.e2e_s = Describe(std::move(e2e));
  summary.server_queue_s = Describe(std::move(queue));
  return summary;
}

}  // namespace trireme
