// Where a row's filters cut: looks at the largest logits, and at more of them while the cut is not
// among those.
#pragma once

#include <span>
#include <vector>

#include "kernels/cpu/top_logits.h"

namespace trireme::cpu {

// Of all ids. See Filter.
uint64_t TotalMass(const VocabKernels& kernels, std::span<const float> logits, float max,
                   float inverse_temperature);

class CutoffFinder {
 public:
  explicit CutoffFinder(const VocabKernels& kernels) : kernels_(kernels), top_logits_(kernels) {}

  // As Ops::FindCutoffs, for one row of which the ids are the indices.
  Scored Find(std::span<const float> logits, const Filter& filter);

 private:
  // False where the cut may come after the last of top_.
  bool Cut(std::span<const float> logits, const Filter& filter, Scored* last);

  const VocabKernels& kernels_;
  TopLogitsFinder top_logits_;
  std::vector<Scored> top_;
  std::vector<float> scores_;
  std::vector<uint64_t> masses_;
};

}  // namespace trireme::cpu
