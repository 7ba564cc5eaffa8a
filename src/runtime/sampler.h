// Sampler: draws ids from logits that are cut over the vocabulary, on the device: it enqueues and
// returns.
//
// Logprobs are of the logits as they come, kept aside before edits are written into them.
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

  // On the device, until the next call's are written; the same on every rank of the group.
  struct Samples {
    Tensor ids;       // [S] int32
    Tensor logprobs;  // [n,kLogprobs,2] Scored of the rows that want them; see Ops::Logprobs
  };
  // Edits are written into the logits.
  //   logits: [S,V] float32 of this rank's vocabulary
  Samples Sample(Tensor logits, std::span<const SampleRow> rows, std::span<const LogitEdit> edits);

  // The largest tensor that it gathers, for WorldOptions::max_tensor_bytes.
  static size_t GatherBytes(const Split& split, int64_t max_rows);

 private:
  // The last id kept of every row: [S,2] Scored; an empty tensor where all keep everything.
  Tensor FindCutoffs(Tensor logits, std::span<const SampleRow> rows);
  Tensor DrawIds(Tensor logits, std::span<const SampleRow> rows);
  // Rows `which` of the logits: [n,width_], what lies past V is of no use.
  Tensor Gather(Buffer& to, Tensor logits, std::span<const int32_t> which);
  // The same of every rank: [tp,n,width_].
  Tensor GatherShards(Tensor rows);
  Tensor Logprobs(Tensor raw, std::span<const LogprobRow> wanted, Tensor drawn);

  Mesh& mesh_;
  int64_t width_;                // the most ids of a rank
  int64_t n_exchanged_;          // rows whose logits are exchanged at a time
  std::vector<int64_t> firsts_;  // of each rank's ids
  Buffer lasts_, rows_, raw_, filtered_, exchanged_, best_, all_best_, ids_, logprobs_;
};

}  // namespace trireme
