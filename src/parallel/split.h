// Split: who owns which chunks and layers. Pure arithmetic, the same on every rank.
//
// Heads, FFN columns and vocabulary rows are each cut into the same C chunks at floor(i*n/C), with
// C = R = the largest power of two <= min(heads, 32), or C = tp where tp > R. A tensor-parallel
// rank owns contiguous chunks. Equal C means equal sums (kernels/sum_tree.h): every tp <= R gives
// the same bits. Where nobody asks for those, C = tp: every rank leaves one part of a row-parallel
// product.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "comm/communicator.h"
#include "kernels/ops.h"
#include "kernels/sum_tree.h"
#include "runtime/config.h"
#include "runtime/tensor_store.h"

namespace trireme {

enum class SequenceParallel { kAuto, kOn, kOff };

enum class Reduction {
  kExact,  // R chunks: the bits do not depend on tp
  kFast,   // one a rank
};

// How one replica is cut over its tp * pp ranks. World rank = stage * tp + tp_rank.
struct Layout {
  int tp = 1;
  int pp = 1;
  SequenceParallel sequence_parallel = SequenceParallel::kAuto;

  int n_ranks() const { return tp * pp; }
};

class Split {
 public:
  // INVALID_ARGUMENT where tp is above the query heads or pp above the layers.
  static absl::StatusOr<Split> Make(const ModelConfig& config, const Layout& layout, int rank,
                                    Reduction reduction = Reduction::kExact);

  int tp() const { return tp_; }
  int pp() const { return pp_; }
  int tp_rank() const { return tp_rank_; }
  int stage() const { return stage_; }
  bool first_stage() const { return stage_ == 0; }
  bool last_stage() const { return stage_ == pp_ - 1; }

  Range layers() const { return stages_[stage_]; }
  const std::vector<Range>& stages() const { return stages_; }

  Range heads() const { return Own(n_heads_); }
  Range kv_heads() const;  // those that the query heads read
  Range ffn() const { return Own(ffn_); }
  Range vocab() const { return Own(vocab_); }
  int64_t n_vocab() const { return vocab_; }
  int64_t largest_vocab() const;  // rows of the rank that has most
  // Where each rank's vocabulary begins, and the end: [tp + 1].
  std::vector<int64_t> vocab_firsts() const;
  HeadMap head_map() const;

  Reduction reduction() const { return reduction_; }
  int n_chunks() const { return n_chunks_; }
  ChunkRange chunks() const { return Chunks(tp_rank_); }
  // Cuts of this rank's part of n things into its chunks, relative to the part: 0 .. part size.
  std::vector<int64_t> ChunkBounds(int64_t n, int64_t scale = 1) const;
  std::vector<int64_t> HeadBounds(int64_t scale) const { return ChunkBounds(n_heads_, scale); }
  std::vector<int64_t> FfnBounds() const { return ChunkBounds(ffn_); }

  // Row-parallel sums: what this rank adds, and how the group finishes.
  std::vector<uint8_t> merges() const { return SumTree(n_chunks_).Merges(chunks()); }
  const GroupSum& group_sum() const { return group_sum_; }

  // World ranks of this rank's tensor-parallel group, and of its pipeline, by stage.
  std::vector<int> tp_group() const;
  std::vector<int> pp_group() const;

 private:
  Split() = default;
  ChunkRange Chunks(int tp_rank) const;
  Range Own(int64_t n) const;

  int tp_ = 1, pp_ = 1, tp_rank_ = 0, stage_ = 0, n_chunks_ = 1;
  int64_t n_heads_ = 0, n_kv_heads_ = 0, ffn_ = 0, vocab_ = 0;
  Reduction reduction_ = Reduction::kExact;
  std::vector<Range> stages_;
  GroupSum group_sum_;
};

// Contiguous stages of layers that make the largest stage's bytes smallest; the first stage also
// holds `first_bytes` (embedding), the last `last_bytes` (LM head). Ties: fewer layers in later
// stages, because the head computes and the embedding does not.
std::vector<Range> BalanceStages(int64_t n_layers, int pp, int64_t layer_bytes, int64_t first_bytes,
                                 int64_t last_bytes);

}  // namespace trireme
