// Attention of single rows, 16-bit types: a block has all query heads of a KV head (16 at a time)
// and one split of a sequence's tokens, of which its warps take pages in turn, each with its own
// copies under way. A second kernel merges the splits. Bound by bandwidth: every key and value
// once.
#include "kernels/cuda/attention_mma.cuh"

namespace trireme::cuda {
namespace {

constexpr int kMostColumns = 2;  // of a thread: head sizes to 256
constexpr int kHeads = 16;       // of a block: the rows of a fragment

template <int kD>
constexpr int kStages = kD <= 128 ? 3 : 2;  // pages of a warp in shared memory
template <int kD>
constexpr int kPage = 2 * kB* kStride<kD>;  // elements of a stage: keys, then values
template <int kD>
constexpr size_t SharedBytes() {
  constexpr int kElements = kHeads * kStride<kD> + kAttentionWarps * kStages<kD> * kPage<kD>;
  return kElements * sizeof(uint16_t);
}

// What the warps bring together at the end of a split, over their pages.
template <int kD>
struct Warps {
  float out[kAttentionWarps][kHeads][kD];
  float max[kAttentionWarps][kHeads], sum[kAttentionWarps][kHeads];
};

// Stores the sum of the warps' rows: as the result where the split is the only one.
template <typename T, int kD>
__device__ __forceinline__ void MergeWarps(const AttentionArgs& a, const Tile& tile,
                                           const Warps<kD>& warps, int split, int n_splits) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int p = warp; p < tile.n_pairs; p += kAttentionWarps) {
    float max = -INFINITY, sum = 0, weights[kAttentionWarps];
    GPU_UNROLL
    for (int w = 0; w < kAttentionWarps; ++w) max = fmaxf(max, warps.max[w][p]);
    GPU_UNROLL
    for (int w = 0; w < kAttentionWarps; ++w) {
      weights[w] = Exp2(warps.max[w][p] - Base(max));
      sum = __fmaf_rn(weights[w], warps.sum[w][p], sum);
    }
    const int head = tile.heads.begin + tile.first_pair + p;
    const Partial partial = PartialOf(a, tile.sequence, head, split);
    for (int c = lane; c < a.d; c += kWarp) {
      float x = 0;
      GPU_UNROLL
      for (int w = 0; w < kAttentionWarps; ++w) x = __fmaf_rn(weights[w], warps.out[w][p][c], x);
      if (n_splits == 1) {
        static_cast<T*>(a.y)[tile.Element(a, p) + c] = FromFloat<T>(x / sum);
      } else {
        partial.sums[c] = x;
      }
    }
    if (n_splits > 1 && lane == 0) {
      partial.max[0] = max;
      partial.max[1] = sum;
    }
  }
}

// y = the splits' sums over the splits' weights, all rescaled to the largest score. A block has a
// head of a sequence.
template <typename T>
__global__ void MergeSplitsKernel(AttentionArgs a) {
  const auto sequence = static_cast<int>(blockIdx.y), head = static_cast<int>(blockIdx.x);
  const int row = a.q_starts[sequence];
  if (a.q_starts[sequence + 1] - row != 1) return;
  const int n_splits = SplitsOf(SeenTokens(a.kv_lens[sequence], a.window)).n;
  if (n_splits == 1) return;
  float max = -INFINITY, sum = 0;
  for (int i = 0; i < n_splits; ++i) max = fmaxf(max, PartialOf(a, sequence, head, i).max[0]);
  float x[kMostColumns] = {};
  for (int i = 0; i < n_splits; ++i) {
    const Partial partial = PartialOf(a, sequence, head, i);
    const float weight = Exp2(partial.max[0] - Base(max));
    sum = __fmaf_rn(weight, partial.max[1], sum);
    GPU_UNROLL
    for (int j = 0; j < kMostColumns; ++j) {
      const int c = static_cast<int>(threadIdx.x) + j * kAttentionThreads;
      if (c < a.d) x[j] = __fmaf_rn(weight, partial.sums[c], x[j]);
    }
  }
  GPU_UNROLL
  for (int j = 0; j < kMostColumns; ++j) {
    const int c = static_cast<int>(threadIdx.x) + j * kAttentionThreads;
    if (c < a.d) {
      static_cast<T*>(a.y)[(static_cast<int64_t>(row) * a.n_heads + head) * a.d + c] =
          FromFloat<T>(x[j] / sum);
    }
  }
}

template <typename T, int kD>
__global__ void __launch_bounds__(kAttentionThreads) MmaSplitsKernel(AttentionArgs a) {
  constexpr int kAhead = kStages<kD> - 1;
  const int sequence = static_cast<int>(blockIdx.z);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Tile tile = PairsOf<kHeads>(a, sequence, static_cast<int>(blockIdx.y) % a.n_kv_heads,
                              static_cast<int>(blockIdx.y) / a.n_kv_heads * kHeads);
  if (tile.n_pairs <= 0 || a.q_starts[sequence + 1] - tile.first_row != 1) return;

  const Splits splits = SplitsOf(tile.Seen(a, 0));
  if (static_cast<int>(blockIdx.x) >= splits.n) return;
  T* queries = Shared<T>();
  T* all_stages = queries + kHeads * kStride<kD>;
  T* stages = all_stages + warp * kStages<kD> * kPage<kD>;
  auto& warps = *reinterpret_cast<Warps<kD>*>(all_stages);  // when the pages are done with
  LoadQueries<kD, kHeads>(queries, a, tile);
  CommitCopies();
  const auto query = QueryFragments<kD>(queries);

  for (int split = static_cast<int>(blockIdx.x); split < splits.n;
       split += static_cast<int>(gridDim.x)) {
    const int begin = splits.begin + split * splits.tokens;
    const Range seen = {tile.Seen(a, 0).begin,
                        split + 1 < splits.n ? begin + splits.tokens : tile.end};
    const int first_page = begin / kB + warp;
    const int left = (seen.end + kB - 1) / kB - first_page;
    const int n_pages = left > 0 ? (left + kAttentionWarps - 1) / kAttentionWarps : 0;
    const auto page_at = [&](int i) { return first_page + i * kAttentionWarps; };
    int blocks = 0;  // lane l: of the page 32 j + l for the current j
    const auto load = [&](int i) {
      if (i % kWarp == 0 && i + lane < n_pages) blocks = tile.blocks[page_at(i + lane)];
      const int block = __shfl_sync(kFullMask, blocks, i % kWarp);
      if (i >= n_pages) return;
      const auto row = [&](int j) -> int64_t {
        const int token = page_at(i) * kB + j;
        if (!seen.Has(token)) return -1;
        return PageOf(a, tile, block) + j * a.d;
      };
      T* stage = stages + i % kStages<kD> * kPage<kD>;
      CopyRows(stage, kB, kD, kStride<kD>, a.k_pages, a.d, lane, kWarp, row);
      CopyRows(stage + kB * kStride<kD>, kB, kD, kStride<kD>, a.v_pages, a.d, lane, kWarp, row);
    };

    RowState<kD> state[1];
    GPU_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      load(i);
      CommitCopies();
    }
    AwaitCopies<kAhead>();
    __syncthreads();  // the queries are here
    for (int i = 0; i < n_pages; ++i) {
      load(i + kAhead);
      CommitCopies();
      AwaitCopies<kAhead>();
      __syncwarp();  // the page is here
      const T* stage = stages + i % kStages<kD> * kPage<kD>;
      float s[1][kB / 8][4];
      Scores<kD>(s, query, stage);
      const int first = page_at(i) * kB;
      if (first < seen.begin || first + kB > seen.end) Mask(s[0], first, [&](int) { return seen; });
      Weigh(s[0], state[0], a.scale);
      Accumulate<kD>(state, s, stage + kB * kStride<kD>);
      __syncwarp();  // and done with
    }
    AwaitCopies<0>();

    __syncthreads();  // all pages are done with
    GPU_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int p = r * 8 + lane / 4;
      const float sum = RowSum(state[0].sum[r]);
      if (p >= tile.n_pairs) continue;
      warps.max[warp][p] = state[0].max[r];
      warps.sum[warp][p] = sum;
      GPU_UNROLL
      for (int n = 0; n < kD / 8; ++n) {
        warps.out[warp][p][n * 8 + lane % 4 * 2] = state[0].out[n][2 * r];
        warps.out[warp][p][n * 8 + lane % 4 * 2 + 1] = state[0].out[n][2 * r + 1];
      }
    }
    __syncthreads();
    MergeWarps<T>(a, tile, warps, split, splits.n);
    __syncthreads();  // before the next split's pages
  }
}

}  // namespace

void LaunchMmaSplits(const AttentionArgs& args, const AttentionShape& shape, DType type,
                     cudaStream_t stream) {
  ForMmaType(type, args.d, [&]<typename T, typename Size>(T, Size) {
    constexpr int kD = Size::value;
    static_assert(sizeof(Warps<kD>) <= SharedBytes<kD>() - kHeads * kStride<kD> * sizeof(uint16_t));
    Launch<MmaSplitsKernel<T, kD>>(
        {SplitGrid(args, shape, kHeads), dim3{kAttentionThreads, 1, 1}, SharedBytes<kD>(), stream},
        args);
  });
}

void LaunchMerge(const AttentionArgs& args, DType type, cudaStream_t stream) {
  const Grid grid = {
      dim3{static_cast<unsigned>(args.n_heads), static_cast<unsigned>(args.n_sequences), 1},
      dim3{kAttentionThreads, 1, 1}, 0, stream};
  ForElement(type, [&]<typename T>(T) { Launch<MergeSplitsKernel<T>>(grid, args); });
}

}  // namespace trireme::cuda
