// Sampler: draws ids from logits that are cut over the vocabulary, on the device: it enqueues and
// returns.
//
// All filters keep a prefix of the ids ordered by (logit descending, id ascending). For rows that
// have any, the ranks exchange their logits and each finds the last id kept; then one Gumbel-max
// draw (kernels/ops.h) per rank and one exchange of winners decide.
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

  // One id per row, the same on every rank of the group: [S] int32 on the device, until the next
  // call's are written. Bans are written into the logits.
  //   logits: [S,V] float32 of this rank's vocabulary
  Tensor Sample(Tensor logits, std::span<const SampleRow> rows);

  // The largest tensor that it gathers, for WorldOptions::max_tensor_bytes.
  static size_t GatherBytes(const Split& split, int64_t max_rows);

 private:
  void Ban(Tensor logits, std::span<const SampleRow> rows) const;
  // The last id kept of every row: [S,2] Scored; an empty tensor where all keep everything.
  Tensor FindCutoffs(Tensor logits, std::span<const SampleRow> rows);

  Mesh& mesh_;
  int64_t width_;                // the most ids of a rank
  int64_t n_filtered_;           // rows whose logits are exchanged at a time
  std::vector<int64_t> firsts_;  // of each rank's ids
  Buffer lasts_, rows_, filtered_, all_filtered_, best_, all_best_, ids_;
};

}  // namespace trireme
