// Ops: every verb that a device has. The CPU's are the oracle for the others.
//
// Rules that all verbs keep:
//  - a row's result depends on that row alone, never on T, on the other rows or on threads;
//  - reductions have one fixed order; multiply-adds are fused where the formula says fma;
//  - activations are float32 or bfloat16, one type within a call except Linear's x and y;
//  arithmetic
//    is float32; a bfloat16 result is rounded to nearest even once, at the end;
//  - outputs do not overlap inputs unless the comment allows it; empty tensors are allowed;
//  - calls are asynchronous on devices with a stream; Synchronize() waits.
// Letters: see tensor.h.
#pragma once

#include <memory>
#include <span>

#include "kernels/device.h"
#include "kernels/tensor.h"
#include "kernels/weight.h"

namespace trireme {

// The pages of one layer's keys and values, in the device's own order inside a block.
// The CPU's: keys [n_blocks,K,D,B], values [n_blocks,K,B,D], B = kKvBlockSize.
struct KvLayer {
  Tensor k;
  Tensor v;
};
inline constexpr int64_t kKvBlockSize = 16;

// Which KV rows the tokens of a step read. All tensors int32.
struct AttentionPlan {
  Tensor q_starts;     // [S+1] tokens of sequence s are rows q_starts[s] .. q_starts[s+1]
  Tensor kv_lens;      // [S] tokens in the cache, this step's included; the rows are the last ones
  Tensor block_table;  // [S,max_blocks] block of tokens B*i .. B*i+B-1; entries past kv_len unread
  // On the host, for who launches without reading the above; the CPU does not need them.
  int64_t max_rows = 0;    // the most rows of a sequence
  int64_t max_kv_len = 0;  // the longest
};

// Query head i of this rank reads KV head (head_offset + i) / group of this rank.
struct HeadMap {
  int64_t n_heads = 0;      // N
  int64_t n_kv_heads = 0;   // K
  int64_t group = 1;        // query heads per KV head in the whole model
  int64_t head_offset = 0;  // first query head of this rank, modulo group
};

enum class Activation { kSilu };

// Dropout of one token row (Srivastava et al. 2014, inverted: kept values are divided by 1-p).
// Column c is kept iff philox(seed, {c/4, position, site, 2})[c%4] * 2^-32 >= p.
struct DropoutRow {
  float p = 0;  // 0: the row is left alone
  uint64_t seed = 0;
  int32_t position = 0;
};

// One draw by the Gumbel-max rule: argmax over ids v of logit[v] * inverse_temperature + g(v),
// where g(v) = -log(-log1p(-u)), u = (philox(seed, {v/4, token_index, choice, 1})[v%4] + 0.5) *
// 2^-32. No sum over the vocabulary is needed, so the draw is the same however the vocabulary is
// split. Ties go to the smallest id. inverse_temperature = +inf means greedy: no noise.
struct Draw {
  float inverse_temperature = 1;
  uint64_t seed = 0;
  uint32_t choice = 0;
  uint32_t token_index = 0;
};
struct Scored {
  float score = 0;
  int32_t id = -1;
};

class Ops {
 public:
  virtual ~Ops() = default;

  // Zeroed, 64-byte aligned. Ends the process with one line when memory runs out.
  virtual Buffer Allocate(size_t bytes) = 0;
  virtual void Synchronize() = 0;

  // Host memory into a tensor; `from` may change when the call returns. Tensors into host memory,
  // which is filled when Synchronize() returns.
  virtual void Upload(Tensor to, const void* from) = 0;
  virtual void Download(void* to, Tensor from) = 0;

  // Reads, rounds and packs a matrix. Errors are the source's.
  virtual absl::StatusOr<std::unique_ptr<Weight>> Pack(const MatrixSource& source,
                                                       const WeightSpec& spec) = 0;

  // y = x W^T (+ b). Each output element: per chunk, fma over the columns in ascending order from
  // 0; the chunks added as `merges` says; then the bias.
  //   x: [T,n_in]   y: [T,n_out], or [n_parts,T,n_out] float32 where the weight leaves several
  //   parts moves w.bytes(): bandwidth-bound for small T; 2*T*n_in*n_out FLOP
  virtual void Linear(Tensor y, Tensor x, const Weight& w) = 0;

  // y = sum of parts in the order of `merges` (one part each), then + bias [H] unless null.
  //   parts[i]: [T,H] float32   y: [T,H]
  virtual void SumParts(Tensor y, std::span<const float* const> parts,
                        std::span<const uint8_t> merges, const float* bias) = 0;

  // y[t] = w[ids[t] - first_row] + 0.0, or 0 where that row is not here (vocabulary-parallel).
  //   ids: [T] int32   w: [V,H]   y: [T,H]
  virtual void Embed(Tensor y, Tensor ids, const Weight& w, int64_t first_row) = 0;

  // y[t] = x[t] / sqrt(mean(x[t]^2) + eps) * w      (Zhang & Sennrich 2019)
  //   x, y: [T,H]   w: [H] float32
  virtual void RmsNorm(Tensor y, Tensor x, Tensor w, float eps) = 0;

  // r[t] += x[t], rounded to r's type;  y[t] = RmsNorm(r[t])
  //   x, r, y: [T,H]   w: [H] float32   moves 4*T*H elements: bandwidth-bound
  virtual void AddRmsNorm(Tensor y, Tensor r, Tensor x, Tensor w, float eps) = 0;

  // r[t] += x[t], rounded to r's type: what AddRmsNorm leaves in r.
  virtual void Add(Tensor r, Tensor x) = 0;

  // In place. site numbers the place in the model (layer and region).   x: [T,H]; rows: T of them
  virtual void Dropout(Tensor x, std::span<const DropoutRow> rows, int32_t site) = 0;

  // Splits qkv, rotates query and key halves (Su et al. 2021, "rotate half" as Hugging Face does),
  // writes q, and writes k and v into the pages.
  //   qkv: [T,(N+2K)*D]   q: [T,N*D]   cos, sin: [T,D/2] float32
  //   slots: [T] int32, block*B + offset of each token; -1 writes nothing (padding)
  virtual void RopeStoreKv(Tensor q, KvLayer kv, Tensor qkv, Tensor cos, Tensor sin, Tensor slots,
                           const HeadMap& heads) = 0;

  // Causal attention over the pages. Row j of a sequence with n rows sees kv_len - n + j + 1
  // tokens. Per (row, head): blocks of B tokens in order, online softmax (Milakov & Gimelshein
  // 2018), every block in the same arithmetic, so prefill in any chunks and decode agree to the
  // bit.
  //   q, y: [T,N*D]; rows of y past q_starts[S] are left alone
  virtual void Attention(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan, float scale,
                         const HeadMap& heads) = 0;

  // y = act(x[:, :F]) * x[:, F:]                    (Shazeer 2020)
  //   x: [T,2F]   y: [T,F]
  virtual void GatedAct(Tensor y, Tensor x, Activation act) = 0;

  // Rows of x picked by index: y[i] = x[rows[i]].    x: [T,H]   rows: [S] int32   y: [S,H]
  virtual void GatherRows(Tensor y, Tensor x, Tensor rows) = 0;

  // logits[ids[i] - first_id] = -inf for the ids that are here.   logits: [V] float32
  virtual void Ban(Tensor logits, std::span<const int32_t> ids, int64_t first_id) = 0;

  // -inf for every id that comes after `last` by (logit descending, id ascending); NaN too.
  //   logits: [V] float32
  virtual void MaskAfter(Tensor logits, Scored last, int64_t first_id) = 0;

  // best[i]: the winner of draws[i] over the ids first_id .. first_id + V - 1; id -1 if V is 0. NaN
  // never wins; where nothing is above -inf, first_id does.   logits: [S,V] float32
  virtual void SampleArgmax(std::span<Scored> best, Tensor logits, std::span<const Draw> draws,
                            int64_t first_id) = 0;

  // The m largest logits of a row, by (logit descending, id ascending); id -1 past V. NaN counts
  // as -inf. top is [m].   logits: [V] float32
  virtual void TopLogits(std::span<Scored> top, Tensor logits, int64_t first_id) = 0;

  // sums[c] = sum over ids v of chunk c of exp((logit[v] - max) * inverse_temperature), one fixed
  // order per chunk; terms that are NaN count as 0.   logits: [V] float32   bounds: chunk cuts, 0
  // .. V
  virtual void ExpSums(std::span<float> sums, Tensor logits, std::span<const int64_t> bounds,
                       float max, float inverse_temperature) = 0;
};

}  // namespace trireme
