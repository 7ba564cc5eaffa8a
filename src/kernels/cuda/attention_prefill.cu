// Attention of tiles of rows, 16-bit types: a block has 64 or 128 pairs (see attention_step.cuh), a
// warp 16 or 32 of them, and all walk the same tokens, 64 at a time. Keys of the next tokens come
// in while values are added up, values while scores are. Bound by the tensor cores:
// 4 * pairs * tokens * D FLOP.
#include "kernels/cuda/attention_mma.cuh"

namespace trireme::cuda {
namespace {

constexpr int kTokens = kStepTokens;

template <int kD>
constexpr int kRowTiles = kD <= 128 ? 2 : 1;  // of 16 rows, of a warp
template <int kD>
constexpr int kPairs = 16 * kRowTiles<kD>* kAttentionWarps;

// What a block keeps of a pair in shared memory, as registers are scarce.
struct Pair {
  int64_t element;  // where it begins in y; < 0: there is none
  int end;          // of the tokens that it sees
};

template <int kD>
constexpr size_t SharedBytes() {
  constexpr int kRows = kPairs<kD> + 2 * kTokens;
  return kRows * kStride<kD> * sizeof(uint16_t) + kPairs<kD> * sizeof(Pair);
}

template <typename T, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 2) MmaTilesKernel(AttentionArgs a) {
  constexpr int kM = kRowTiles<kD>;
  const Tile tile = FindTile<kPairs<kD>>(a, static_cast<int>(gridDim.x - 1 - blockIdx.x),
                                         static_cast<int>(blockIdx.y));
  if (tile.n_pairs <= 0) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  T* queries = Shared<T>();
  T* keys = queries + kPairs<kD> * kStride<kD>;
  T* values = keys + kTokens * kStride<kD>;
  Pair* pairs = reinterpret_cast<Pair*>(values + kTokens * kStride<kD>);
  for (int p = static_cast<int>(threadIdx.x); p < kPairs<kD>; p += kAttentionThreads) {
    pairs[p] = {p < tile.n_pairs ? tile.Element(a, p) : -1, tile.Seen(a, p).end};
  }

  LoadQueries<kD, kPairs<kD>>(queries, a, tile);
  // The window of the first pair begins in the first step. Derived anew rather than kept: registers
  // are scarce.
  const auto seen = [&] { return Range{tile.Seen(a, 0).begin, tile.end}; };
  LoadTokens(keys, kTokens, kD, kStride<kD>, a.k_pages, a, tile, tile.begin, seen());
  CommitCopies();

  const int warp_pair = warp * 16 * kM;
  const auto query = QueryFragments<kD>(queries + warp_pair * kStride<kD>);
  RowState<kD> state[kM];
  for (int first = tile.begin; first < tile.end; first += kTokens) {
    AwaitCopies<0>();
    __syncthreads();  // these keys are here, and the last values are done with
    LoadTokens(values, kTokens, kD, kStride<kD>, a.v_pages, a, tile, first, seen());
    CommitCopies();
    float s[kM][kTokens / 8][4];
    Scores<kD>(s, query, keys);
    AwaitCopies<0>();
    __syncthreads();  // these values are here, and the keys are done with
    if (first + kTokens < tile.end) {
      LoadTokens(keys, kTokens, kD, kStride<kD>, a.k_pages, a, tile, first + kTokens,
                 {first + kTokens, tile.end});
      CommitCopies();
    }
    GPU_UNROLL
    for (int m = 0; m < kM; ++m) {
      const auto row_seen = [&](int row) {
        return SeenTokens(pairs[warp_pair + m * 16 + row + lane / 4].end, a.window);
      };
      if (first < row_seen(8).begin || first + kTokens > row_seen(0).end) {
        Mask(s[m], first, row_seen);
      }
      Weigh(s[m], state[m], a.scale);
    }
    Accumulate<kD>(state, s, values);
  }

  GPU_UNROLL
  for (int m = 0; m < kM; ++m) {
    GPU_UNROLL
    for (int r = 0; r < 2; ++r) {
      const float sum = RowSum(state[m].sum[r]);
      const int64_t element = pairs[warp_pair + m * 16 + r * 8 + lane / 4].element;
      if (element < 0) continue;
      T* y = static_cast<T*>(a.y) + element;
      GPU_UNROLL
      for (int n = 0; n < kD / 8; ++n) {
        const int column = n * 8 + lane % 4 * 2;
        if (column < a.d) {
          *reinterpret_cast<uint32_t*>(y + column) =
              PackPair<T>(state[m].out[n][2 * r] / sum, state[m].out[n][2 * r + 1] / sum);
        }
      }
    }
  }
}

}  // namespace

void LaunchMmaTiles(const AttentionArgs& args, const AttentionShape& shape, DType type,
                    cudaStream_t stream) {
  ForMmaType(type, args.d, [&]<typename T, typename Size>(T, Size) {
    constexpr int kD = Size::value;
    Launch<MmaTilesKernel<T, kD>>({dim3{static_cast<unsigned>(TileSlots(shape, args, kPairs<kD>)),
                                        static_cast<unsigned>(args.n_kv_heads), 1},
                                   dim3{kAttentionThreads, 1, 1}, SharedBytes<kD>(), stream},
                                  args);
  });
}

}  // namespace trireme::cuda
