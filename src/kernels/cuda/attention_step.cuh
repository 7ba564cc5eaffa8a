// What all attention kernels know of a step: which rows, heads and tokens a block has, how tokens
// come into shared memory and where results go.
//
// Query rows and the heads that share a KV head are taken together as pairs: pair p of a sequence
// is its row p / g and the head p % g of the g that read the KV head.
#pragma once

#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/mma.cuh"

namespace trireme::cuda {

constexpr int kB = static_cast<int>(kKvBlockSize);
constexpr int kAttentionThreads = 128;
constexpr int kAttentionWarps = kAttentionThreads / kWarp;

struct AttentionArgs {
  void* y;
  const void* q;
  const void* k_pages;
  const void* v_pages;
  const int32_t* q_starts;
  const int32_t* kv_lens;
  const int32_t* block_table;
  int max_blocks;  // of a row of the block table
  int n_sequences;
  int min_rows;  // tiles leave sequences of fewer rows to the splits
  int n_heads, n_kv_heads, group, head_offset, d;
  int window;       // tokens that a row sees at most, its own the last
  float scale;      // of scores, times log2(e): weights are powers of two
  float* partials;  // [S,N,most_splits,D] sums of weighted values, then [S,N,most_splits,2]: the
                    // largest score (times scale) and the sum of the weights
  int most_splits;
};

struct Range {
  int begin, end;
  __device__ int size() const { return end - begin; }
  __device__ bool Has(int i) const {
    return static_cast<unsigned>(i - begin) < static_cast<unsigned>(size());
  }
};

// ---- tokens ----

// Tokens are taken in steps that begin at multiples of it, wherever the window does: which tokens a
// row adds up together depends on its place alone.
constexpr int kStepTokens = 64;

// What a row sees that is the last of the sequence's first n tokens; the window may begin before
// those.
__device__ constexpr Range SeenTokens(int n, int window) { return {n - window, n}; }
__device__ constexpr int StepsBegin(Range seen) {
  return seen.begin > 0 ? seen.begin / kStepTokens * kStepTokens : 0;
}

// Splits: what a sequence of one row sees is cut into pieces, by its length and the window alone.
constexpr int kSplitTokens = 256;
constexpr int kMostSplits = 64;

struct Splits {
  int begin;   // of the first
  int tokens;  // of each: kSplitTokens, and multiples of it beyond kMostSplits of those
  int n;
};
__device__ constexpr Splits SplitsOf(Range seen) {
  constexpr int kRound = kSplitTokens * kMostSplits;
  const int begin = StepsBegin(seen), left = seen.end - begin;
  const int tokens = (left + kRound - 1) / kRound * kSplitTokens;
  return {begin, tokens, (left + tokens - 1) / tokens};
}

// The most that a sequence of up to max_kv_len tokens has.
inline int64_t MostSplits(int64_t max_kv_len, int64_t window) {
  const int64_t tokens = std::min(max_kv_len, window + kStepTokens - 1);
  return std::min<int64_t>(DivideUp(tokens, kSplitTokens), kMostSplits);
}

// ---- places ----

// The query heads that read KV head `kv_head`: those i with (head_offset + i) / group == kv_head.
__device__ __forceinline__ Range QueryHeads(const AttentionArgs& a, int kv_head) {
  const int begin = kv_head * a.group - a.head_offset, end = begin + a.group;
  return {begin < 0 ? 0 : begin, end > a.n_heads ? a.n_heads : end};
}

// Pairs of one sequence and KV head, against its tokens [begin, end).
struct Tile {
  int sequence, kv_head;
  Range heads;
  int first_row;   // of the sequence, in q and y
  int before;      // tokens of earlier steps
  int first_pair;  // of the tile
  int n_pairs;     // from there on; none: nothing to do
  int begin, end;  // the tokens of its steps, from a multiple of kStepTokens on
  const int32_t* blocks;

  // where in q and y the pair p of the tile begins
  __device__ int64_t Element(const AttentionArgs& a, int p) const {
    const int pair = first_pair + p, row = pair / heads.size();
    return (static_cast<int64_t>(first_row + row) * a.n_heads + heads.begin +
            (pair - row * heads.size())) *
           a.d;
  }
  // which tokens the pair p sees
  __device__ Range Seen(const AttentionArgs& a, int p) const {
    return SeenTokens(before + (first_pair + p) / heads.size() + 1, a.window);
  }
};

// Pairs [first_pair, first_pair + kPairs) of a sequence, as many as there are.
template <int kPairs>
__device__ __forceinline__ Tile PairsOf(const AttentionArgs& a, int sequence, int kv_head,
                                        int first_pair) {
  Tile tile = {};
  tile.sequence = sequence;
  tile.kv_head = kv_head;
  tile.heads = QueryHeads(a, kv_head);
  tile.first_row = a.q_starts[sequence];
  const int n_rows = a.q_starts[sequence + 1] - tile.first_row;
  tile.before = a.kv_lens[sequence] - n_rows;
  tile.first_pair = first_pair;
  const int left = n_rows * tile.heads.size() - first_pair;
  tile.n_pairs = left < kPairs ? left : kPairs;
  if (tile.n_pairs > 0) {
    tile.begin = StepsBegin(tile.Seen(a, 0));
    tile.end = tile.Seen(a, tile.n_pairs - 1).end;
  }
  tile.blocks = a.block_table + static_cast<int64_t>(sequence) * a.max_blocks;
  return tile;
}

// Tile `slot` of a KV head. Sequence s has the slots from q_starts[s] * g / kPairs + s on, enough
// for its rows: so a tile is found without the other sequences' lengths. Late tiles, which see the
// most tokens, come first.
template <int kPairs>
__device__ __forceinline__ Tile FindTile(const AttentionArgs& a, int slot, int kv_head) {
  const int g = QueryHeads(a, kv_head).size();
  const auto first_slot = [&](int s) { return a.q_starts[s] * g / kPairs + s; };
  int low = 0, high = a.n_sequences;  // first_slot(low) <= slot < first_slot(high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (first_slot(middle) <= slot ? low : high) = middle;
  }
  Tile tile = PairsOf<kPairs>(a, low, kv_head, (slot - first_slot(low)) * kPairs);
  if (a.q_starts[low + 1] - a.q_starts[low] < a.min_rows) tile.n_pairs = 0;
  return tile;
}
inline int64_t TileSlots(const AttentionShape& shape, const AttentionArgs& a, int64_t pairs) {
  return shape.n_tokens * (a.group < a.n_heads ? a.group : a.n_heads) / pairs + shape.n_sequences;
}

// Where block i of the tile's tokens begins in the pages.
__device__ __forceinline__ int64_t PageOf(const AttentionArgs& a, const Tile& tile, int block) {
  return (static_cast<int64_t>(block) * a.n_kv_heads + tile.kv_head) * kB * a.d;
}

// ---- into shared memory ----

// Rows of `columns` elements into shared memory, `stride` apart: row j is the D elements from
// offset(j) of `from` on, then zeros; all zeros where offset(j) < 0. Threads `thread`, thread +
// n_threads .. share the work, by copies where D is a multiple of 16 bytes.
template <typename P, typename Offset>
__device__ __forceinline__ void CopyRows(P* shared, int n, int columns, int stride,
                                         const void* from, int d, int thread, int n_threads,
                                         const Offset& offset) {
  if (d % kPack<P> == 0) {
    const int packs = columns / kPack<P>;
    for (int i = thread; i < n * packs; i += n_threads) {
      const int j = i / packs, column = i % packs * kPack<P>;
      const int64_t row = offset(j);
      const bool valid = row >= 0 && column < d;
      CopyAsync(shared + j * stride + column,
                static_cast<const P*>(from) + (valid ? row + column : 0), valid);
    }
    return;
  }
  GPU_NO_UNROLL
  for (int i = thread; i < n * columns; i += n_threads) {
    const int j = i / columns, column = i % columns;
    const int64_t row = offset(j);
    shared[j * stride + column] =
        row >= 0 && column < d ? static_cast<const P*>(from)[row + column] : FromFloat<P>(0.0f);
  }
}

// Tokens [first, first + n) of the sequence, by the whole block: zeros for those not seen, whose
// pages are not read.
template <typename P>
__device__ __forceinline__ void LoadTokens(P* shared, int n, int columns, int stride,
                                           const void* pages, const AttentionArgs& a,
                                           const Tile& tile, int first, Range seen) {
  CopyRows(shared, n, columns, stride, pages, a.d, static_cast<int>(threadIdx.x), kAttentionThreads,
           [&](int j) -> int64_t {
             const int token = first + j;
             if (!seen.Has(token)) return -1;
             return PageOf(a, tile, tile.blocks[token / kB]) + token % kB * a.d;
           });
}

// ---- results ----

// Where the results of a split are kept until they are merged.
struct Partial {
  float* sums;  // [D]
  float* max;   // the largest score, times scale; then the sum of the weights
};
__device__ __forceinline__ Partial PartialOf(const AttentionArgs& a, int sequence, int head,
                                             int split) {
  const int64_t i = (static_cast<int64_t>(sequence) * a.n_heads + head) * a.most_splits + split;
  const int64_t n = static_cast<int64_t>(a.n_sequences) * a.n_heads * a.most_splits;
  return {a.partials + i * a.d, a.partials + n * a.d + 2 * i};
}

// What is subtracted from scores: where all are -inf, 0, so that they weigh nothing.
__device__ __forceinline__ float Base(float max) { return max == -INFINITY ? 0.0f : max; }

// ---- launches ----

// Queries and pages of one type of 16 bits.
void LaunchMmaTiles(const AttentionArgs& args, const AttentionShape& shape, DType type,
                    cudaStream_t stream);
void LaunchMmaSplits(const AttentionArgs& args, const AttentionShape& shape, DType type,
                     cudaStream_t stream);
// All other types, but for queries and pages of two different ones of 16 bits.
void LaunchFmaTiles(const AttentionArgs& args, const AttentionShape& shape, DType type,
                    DType kv_type, cudaStream_t stream);
void LaunchFmaSplits(const AttentionArgs& args, const AttentionShape& shape, DType type,
                     DType kv_type, cudaStream_t stream);
// The splits' results into rows of `type`.
void LaunchMerge(const AttentionArgs& args, DType type, cudaStream_t stream);

// Blocks along splits, KV heads (times tiles of `pairs` heads) and sequences. Blocks take several
// splits where there are enough blocks.
inline dim3 SplitGrid(const AttentionArgs& args, const AttentionShape& shape, int64_t pairs) {
  constexpr int64_t kEnough = 4096;
  const int64_t most_heads = args.group < args.n_heads ? args.group : args.n_heads;
  const int64_t heads = args.n_kv_heads * DivideUp(most_heads, pairs);
  const int64_t wanted = DivideUp(kEnough, heads * shape.n_sequences);
  return dim3{static_cast<unsigned>(args.most_splits < wanted ? args.most_splits : wanted),
              static_cast<unsigned>(heads), static_cast<unsigned>(shape.n_sequences)};
}

}  // namespace trireme::cuda
