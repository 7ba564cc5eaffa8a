// log p of ids in the softmax of a row.
#pragma once

#include <span>
#include <vector>

#include "kernels/cpu/top_logits.h"

namespace trireme::cpu {

class LogprobFinder {
 public:
  explicit LogprobFinder(const VocabKernels& kernels) : kernels_(kernels), top_logits_(kernels) {}

  // As Ops::Logprobs, for one row of which the ids are the indices: of `id`, then of the n_top
  // first.
  //   logprobs: [kLogprobs]
  void Find(std::span<Scored> logprobs, std::span<const float> logits, int32_t id, int32_t n_top);

 private:
  const VocabKernels& kernels_;
  TopLogitsFinder top_logits_;
  std::vector<Scored> top_;
};

}  // namespace trireme::cpu
