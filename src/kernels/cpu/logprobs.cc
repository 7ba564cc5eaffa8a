#include "kernels/cpu/logprobs.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cutoff.h"
#include "kernels/filter.h"

namespace trireme::cpu {

void LogprobFinder::Find(std::span<Scored> logprobs, std::span<const float> logits, int32_t id,
                         int32_t n_top) {
  top_.resize(static_cast<size_t>(std::max(n_top, 1)));  // the first one is the largest
  top_logits_.Find(top_, logits, 0);
  const float max = top_[0].score;
  const auto total = static_cast<double>(TotalMass(kernels_, logits, max, 1));
  const double log_total = std::log(total / static_cast<double>(kWholeMass));
  const auto log_p = [&](float logit) { return LogprobOf(logit, max, log_total); };
  std::fill(logprobs.begin(), logprobs.end(), Scored{-HUGE_VALF, -1});
  logprobs[0] = {log_p(logits[static_cast<size_t>(id)]), id};
  for (size_t i = 0; i < static_cast<size_t>(n_top); ++i) {
    logprobs[1 + i] = {log_p(top_[i].score), top_[i].id};
  }
}

}  // namespace trireme::cpu
