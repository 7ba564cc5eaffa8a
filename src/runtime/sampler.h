// Sampler: draws ids from logits that are cut over the vocabulary, without gathering them.
//
// All filters keep a prefix of the ids ordered by (logit descending, id ascending). The ranks
// exchange their best candidates, agree on the last id kept, and mask what comes after it; then one
// Gumbel-max draw (kernels/ops.h) per rank and one exchange of winners decide. Where the candidates
// do not reach far enough, the exchange is repeated with eight times as many.
#pragma once

#include <span>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/step_plan.h"

namespace trireme {

class Sampler {
 public:
  // `max_rows`: the most rows of one call.
  Sampler(Mesh& mesh, int64_t max_rows);

  // One id per row, the same on every rank of the group. Overwrites masked logits with -inf.
  //   logits: [S,V] float32 of this rank's vocabulary
  std::vector<int32_t> Sample(Tensor logits, std::span<const SampleRow> rows);

  // The largest tensor that it gathers, for WorldOptions::max_tensor_bytes.
  static size_t GatherBytes(const Split& split, int64_t max_rows);

 private:
  // What is known of a row that has filters.
  struct Filtered {
    int32_t index = 0;               // into rows
    std::vector<Scored> candidates;  // merged, best first
    int64_t n_reliable = 0;          // of them: no unseen id comes before
    float total_mass = 0;            // sum over the vocabulary of exp((l - max) / temperature)
  };

  void Ban(Tensor logits, std::span<const SampleRow> rows) const;
  void Filter(Tensor logits, std::span<const SampleRow> rows);
  void GatherCandidates(Tensor logits, int64_t n, std::vector<Filtered>* pending);
  void GatherMass(Tensor logits, std::span<const SampleRow> rows, std::vector<Filtered>* pending);
  // The last id kept, id = -1 where all are; false where more candidates are needed.
  bool Cutoff(const SampleRow& row, const Filtered& known, Scored* last);
  std::vector<int32_t> Draws(Tensor logits, std::span<const SampleRow> rows);

  // Every rank's n scores, by rank: n * tp of them.
  std::span<const Scored> Exchange(std::span<const Scored> mine);

  Mesh& mesh_;
  int64_t vocab_here_;
  int64_t first_id_;
  int64_t largest_vocab_;  // of any rank
  Buffer mine_, all_;      // for Exchange, in host memory
  std::vector<float> exps_;
};

}  // namespace trireme
