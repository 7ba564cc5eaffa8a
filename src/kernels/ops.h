// Ops: every verb that a device has. The CPU's are the oracle for the others.
//
// Rules that all verbs keep:
//  - a row's result depends on that row alone, never on T, on the other rows or on threads;
//  - reductions have one fixed order; multiply-adds are fused where the formula says fma;
//  - activations are float32, bfloat16 or float16, one type within a call except Linear's x and y;
//    arithmetic is float32; a result of 16 bits is rounded to nearest even once, at the end;
//  - outputs do not overlap inputs unless the comment allows it; empty tensors are allowed;
//  - calls are asynchronous on devices with a stream; Synchronize() waits.
// Letters: see tensor.h.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

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

// No sequence is longer.
inline constexpr int64_t kNoWindow = int64_t{1} << 30;

// Which KV rows the tokens of a step read. All tensors int32.
struct AttentionPlan {
  Tensor q_starts;     // [S+1] tokens of sequence s are rows q_starts[s] .. q_starts[s+1]
  Tensor kv_lens;      // [S] tokens in the cache, this step's included; the rows are the last ones
  Tensor block_table;  // [S,max_blocks] block of tokens B*i .. B*i+B-1; entries past kv_len, and
                       // of blocks that lie outside every row's window, are unread, as their pages
  // A token sees so many of the last ones, itself included (Beltagy et al. 2020): a layer's.
  int64_t window = kNoWindow;
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

// silu(a) = a / (1 + e^-a); gelu(a) = a * P(Z <= a), Z normally distributed, by erf, or by a tanh:
// a / (1 + e^(-2 u)), u = sqrt(2 / pi) * (a + 0.044715 a^3)   (Hendrycks & Gimpel 2016)
enum class Activation { kSilu, kGelu, kGeluTanh };

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

// What of a row's distribution may be drawn: a prefix of the ids ordered by (logit descending, id
// ascending; NaN counts as -inf). min_p keeps p(v) >= min_p * p(best), top_k the first so many,
// top_p the fewest of those whose mass is at least that share of theirs. The mass of v is
// floor(2^40 exp((logit[v] - max) * inverse_temperature)), 2^40 for the best, 0 for NaN: integers,
// so that no order of additions matters.
struct Filter {
  int32_t row = 0;    // of the draws
  int32_t top_k = 0;  // 0: all
  float top_p = 1;
  float min_p = 0;
  float inverse_temperature = 1;
};

// How one logit is changed before a draw. A bias of -inf bans the id; the repetition penalty, > 0,
// is that of Keskar et al. 2019.
struct LogitEdit {
  int32_t row = 0;  // of the draws
  int32_t id = 0;
  float bias = 0;
  float repetition = 1;
  float penalty = 0;
};
constexpr float Edited(float logit, const LogitEdit& edit) {
  const float biased = logit + edit.bias;
  return (biased > 0 ? biased / edit.repetition : biased * edit.repetition) - edit.penalty;
}

// Whose log p = (logit - max) - log(sum of masses / 2^40) are wanted, in the softmax of a row:
// masses as Filter's at a temperature of 1.
struct LogprobRow {
  int32_t row = 0;    // of the draws
  int32_t id = -1;    // -1: the one that was drawn
  int32_t n_top = 0;  // and of so many of the most probable, at most kMostTopLogprobs
};
inline constexpr int kMostTopLogprobs = 20;
inline constexpr int kLogprobs = 1 + kMostTopLogprobs;

// Bytes on the way from a device to the host.
class Readback {
 public:
  virtual ~Readback() = default;
  // Enqueues the copy of a tensor of at most the bytes that it was made for; none if it is empty.
  virtual void Start(Tensor from) = 0;
  // Waits for the copy, and what was enqueued before it; later work goes on. Valid until the next
  // Start().
  virtual std::span<const std::byte> Wait() = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;

  // Zeroed, 64-byte aligned. Ends the process with one line when memory runs out.
  virtual Buffer Allocate(size_t bytes) = 0;
  virtual void Synchronize() = 0;
  // True where calls return before the device has done them: planning ahead of it pays.
  virtual bool Asynchronous() const { return false; }

  // Host memory into a tensor; `from` may change when the call returns. Tensors into host memory,
  // which is filled when Synchronize() returns.
  virtual void Upload(Tensor to, const void* from) = 0;
  virtual void Download(void* to, Tensor from) = 0;
  virtual std::unique_ptr<Readback> MakeReadback(size_t bytes) = 0;

  // Enqueues what `work` enqueues. A device with graphs records it under `key` the second time, and
  // from then on enqueues the record without a call of `work`: which tensors it works on, their
  // shapes and all values on the host have to follow from the key alone. No Upload, Download or
  // Readback there.
  virtual void Replay(const std::string& /*key*/, const std::function<void()>& work) { work(); }

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

  // y[t] = (x[t] - m) / sqrt(mean((x[t] - m)^2) + eps) * w + b, m = mean(x[t])  (Ba et al. 2016)
  //   x, y: [T,H]   w: [H] float32   b: the same, or empty: 0
  virtual void LayerNorm(Tensor y, Tensor x, Tensor w, Tensor b, float eps) = 0;

  // r[t] += x[t], rounded to r's type;  y[t] = LayerNorm(r[t])
  virtual void AddLayerNorm(Tensor y, Tensor r, Tensor x, Tensor w, Tensor b, float eps) = 0;

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

  // Causal attention over the pages. Row j of a sequence with n rows sees the last
  // min(plan.window, p) of its first p = kv_len - n + j + 1 tokens. Per (row, head): blocks of B
  // tokens in order, online softmax (Milakov & Gimelshein 2018), every block in the same
  // arithmetic, so prefill in any chunks and decode agree to the bit.
  //   q, y: [T,N*D]; rows of y past q_starts[S] are left alone
  virtual void Attention(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan, float scale,
                         const HeadMap& heads) = 0;

  // y = act(x[:, :F]) * x[:, F:]                    (Shazeer 2020)
  //   x: [T,2F]   y: [T,F]
  virtual void GatedAct(Tensor y, Tensor x, Activation act) = 0;

  // y = act(x)                                      x, y: [T,F]; y may be x
  virtual void Act(Tensor y, Tensor x, Activation act) = 0;

  // Rows of x picked by index: y[i,:H] = x[rows[i]].
  //   x: [T,H]   rows: [S] int32   y: [S,W], W >= H; columns past H are left alone
  virtual void GatherRows(Tensor y, Tensor x, Tensor rows) = 0;

  // logits[e.row,e.id - first_id] = Edited(the same, e) for the ids that are here; at most one edit
  // of an id in a row.   logits: [S,V] float32
  virtual void EditLogits(Tensor logits, std::span<const LogitEdit> edits, int64_t first_id) = 0;

  // Where the filters cut: lasts[filters[i].row] = the last id kept, of the logits in row i of each
  // shard; id -1 where all are kept. Other rows of lasts are left alone.
  //   lasts: [S,2] Scored   logits: [n,F,W] float32, shard j holding ids firsts[j] .. firsts[j+1]-1
  virtual void FindCutoffs(Tensor lasts, Tensor logits, std::span<const int64_t> firsts,
                           std::span<const Filter> filters) = 0;

  // best[i]: the winner of draws[i] over the ids first_id .. first_id + V - 1; id -1 if V is 0. NaN
  // never wins, nor what comes after lasts[i]; where nothing else is above -inf, first_id does.
  //   best: [S,2] Scored   logits: [S,V] float32   lasts: [S,2] Scored, or empty: nothing is cut
  virtual void DrawBest(Tensor best, Tensor logits, std::span<const Draw> draws, Tensor lasts,
                        int64_t first_id) = 0;

  // ids[i] = the id of the best of best[:,i], of equal scores the smallest; id -1 is no candidate.
  //   ids: [S] int32   best: [n,S,2] Scored
  virtual void PickWinners(Tensor ids, Tensor best) = 0;

  // The log p that rows[i] wants: of its id, then of the ids that come first by (logit descending,
  // id ascending); the rest of logprobs[i] has id -1.
  //   logprobs: [F,kLogprobs,2] Scored   logits: [n,F,W] float32 as in FindCutoffs, row i for
  //   rows[i]   drawn: [S] int32
  virtual void Logprobs(Tensor logprobs, Tensor logits, std::span<const int64_t> firsts,
                        Tensor drawn, std::span<const LogprobRow> rows) = 0;

  // ids[t] = ids[t] >= 0 ? ids[t] : drawn[~ids[t]]: ids that the host does not know yet.
  //   ids: [T], drawn: [S] int32
  virtual void Feed(Tensor ids, Tensor drawn) = 0;
};

// How a Scored lies in a tensor: int32 [..., 2], the score's bits and the id.
inline Tensor ScoredTensor(void* data, int64_t n) { return Tensor(data, DType::kI32, {n, 2}); }

}  // namespace trireme
