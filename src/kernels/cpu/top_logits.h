// The largest logits of a row: a heap for few, a radix sort for many.
#pragma once

#include <span>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/memory.h"

namespace trireme::cpu {

class TopLogitsFinder {
 public:
  explicit TopLogitsFinder(const VocabKernels& kernels) : kernels_(kernels) {}

  // The largest logits, by (logit descending, id ascending); id -1 past the last. NaN counts as
  // -inf.
  void Find(std::span<Scored> top, std::span<const float> logits, int64_t first_id);

 private:
  void ByHeap(std::span<Scored> top, std::span<const float> logits, int64_t first_id);
  void BySort(std::span<Scored> top, std::span<const float> logits, int64_t first_id);

  const VocabKernels& kernels_;
  Scratch scratch_;
};

}  // namespace trireme::cpu
