// Attention without tensor cores, float32 or mixed types: a block has up to 16 pairs (see
// attention_step.cuh) and walks their tokens 32 at a time. For scores a row is shared out among
// neighbouring lanes; for weighted values a thread has up to two columns of all rows.
#include "kernels/cuda/attention_step.cuh"

namespace trireme::cuda {
namespace {

constexpr int kTokens = 32;
constexpr int kColumns = 2;  // of a thread

// Rows of shared memory for D elements: an odd number of 16 bytes apart where D fills them.
template <typename P>
__host__ __device__ constexpr int Columns(int d) {
  return (d + kPack<P> - 1) / kPack<P> * kPack<P>;
}
template <typename P>
__host__ __device__ constexpr int Stride(int d) {
  return (Columns<P>(d) / kPack<P> | 1) * kPack<P>;
}

// One tile of up to kRows pairs over its tokens: rows that ended, or one split of them.
template <typename T, typename P, int kRows>
__device__ __forceinline__ void Attend(const AttentionArgs& a, const Tile& tile, int split,
                                       int n_splits) {
  constexpr int kLanes = kAttentionThreads / kRows;  // that share a row's scores
  constexpr int kEach = kTokens / kLanes;            // tokens of each
  const int q_stride = Columns<float>(a.d), stride = Stride<P>(a.d);
  auto* queries = Shared<float>();                 // [kRows][q_stride]
  float* weights = queries + kRows * q_stride;     // [kRows][kTokens]
  float* shrink = weights + kRows * kTokens;       // [kRows], at the end the sums
  P* keys = reinterpret_cast<P*>(shrink + kRows);  // [kTokens][stride]
  P* values = keys + kTokens * stride;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread / kLanes, lane = thread % kLanes;

  GPU_NO_UNROLL
  for (int i = thread; i < kRows * q_stride; i += kAttentionThreads) {
    const int p = i / q_stride, c = i % q_stride;
    queries[i] = p < tile.n_pairs && c < a.d
                     ? ToFloat(static_cast<const T*>(a.q)[tile.Element(a, p) + c])
                     : 0.0f;
  }
  const Range loaded = {tile.Seen(a, 0).begin, tile.end};
  const Range seen = row < tile.n_pairs ? tile.Seen(a, row) : Range{0, 0};
  float max = -INFINITY, sum = 0;
  float out[kRows][kColumns] = {};
  for (int first = tile.begin; first < tile.end; first += kTokens) {
    LoadTokens(keys, kTokens, Columns<P>(a.d), stride, a.k_pages, a, tile, first, loaded);
    LoadTokens(values, kTokens, Columns<P>(a.d), stride, a.v_pages, a, tile, first, loaded);
    CommitCopies();
    AwaitCopies<0>();
    __syncthreads();  // queries, keys and values are here
    float s[kEach] = {};
    for (int c = 0; c < q_stride; c += 4) {
      const auto q = *reinterpret_cast<const Pack<float, 4>*>(queries + row * q_stride + c);
      GPU_UNROLL
      for (int i = 0; i < kEach; ++i) {
        const auto k =
            *reinterpret_cast<const Pack<P, 4>*>(keys + (lane + i * kLanes) * stride + c);
        GPU_UNROLL
        for (int j = 0; j < 4; ++j) s[i] = __fmaf_rn(q.x[j], ToFloat(k.x[j]), s[i]);
      }
    }
    float top = -INFINITY;
    GPU_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int token = first + lane + i * kLanes;
      if (!seen.Has(token)) s[i] = -INFINITY;
      top = fmaxf(top, s[i]);
    }
    GPU_UNROLL
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      top = fmaxf(top, __shfl_xor_sync(kFullMask, top, distance));
    const float next = fmaxf(max, top * a.scale);
    const float factor = Exp2(max - Base(next));
    max = next;
    float added = 0;
    GPU_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const float weight = Exp2(__fmaf_rn(s[i], a.scale, -Base(max)));
      weights[row * kTokens + lane + i * kLanes] = weight;
      added += weight;
    }
    sum = __fmaf_rn(sum, factor, added);
    if (lane == 0) shrink[row] = factor;
    __syncthreads();  // weights are here
    GPU_UNROLL
    for (int i = 0; i < kColumns; ++i) {
      const int c = thread + i * kAttentionThreads;
      if (c >= a.d) continue;
      GPU_UNROLL
      for (int r = 0; r < kRows; ++r) out[r][i] *= shrink[r];
      for (int j = 0; j < kTokens; j += 4) {
        float v[4];
        GPU_UNROLL
        for (int k = 0; k < 4; ++k) v[k] = ToFloat(values[(j + k) * stride + c]);
        GPU_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const auto w = *reinterpret_cast<const Pack<float, 4>*>(weights + r * kTokens + j);
          GPU_UNROLL
          for (int k = 0; k < 4; ++k) out[r][i] = __fmaf_rn(w.x[k], v[k], out[r][i]);
        }
      }
    }
    __syncthreads();  // all of it is done with
  }

  GPU_UNROLL
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    sum += __shfl_xor_sync(kFullMask, sum, distance);
  if (lane == 0) shrink[row] = sum;
  GPU_UNROLL
  for (int i = 0; i < kColumns; ++i) {
    const int c = thread + i * kAttentionThreads;
    if (c >= a.d) continue;
    GPU_UNROLL
    for (int r = 0; r < kRows; ++r) queries[r * q_stride + c] = out[r][i];
  }
  __syncthreads();  // the queries' memory has the sums
  GPU_NO_UNROLL
  for (int i = thread; i < tile.n_pairs * a.d; i += kAttentionThreads) {
    const int p = i / a.d, c = i % a.d;
    const float x = queries[p * q_stride + c];
    if (n_splits == 1) {
      static_cast<T*>(a.y)[tile.Element(a, p) + c] = FromFloat<T>(x / shrink[p]);
    } else {
      PartialOf(a, tile.sequence, tile.heads.begin + tile.first_pair + p, split).sums[c] = x;
    }
  }
  if (n_splits > 1 && lane == 0 && row < tile.n_pairs) {
    const Partial partial =
        PartialOf(a, tile.sequence, tile.heads.begin + tile.first_pair + row, split);
    partial.max[0] = max;
    partial.max[1] = sum;
  }
  __syncthreads();  // before another split
}

template <typename T, typename P, int kRows>
__global__ void __launch_bounds__(kAttentionThreads) FmaTilesKernel(AttentionArgs a) {
  const Tile tile = FindTile<kRows>(a, static_cast<int>(gridDim.x - 1 - blockIdx.x),
                                    static_cast<int>(blockIdx.y));
  if (tile.n_pairs > 0) Attend<T, P, kRows>(a, tile, 0, 1);
}

template <typename T, typename P, int kRows>
__global__ void __launch_bounds__(kAttentionThreads) FmaSplitsKernel(AttentionArgs a) {
  const auto sequence = static_cast<int>(blockIdx.z);
  Tile tile = PairsOf<kRows>(a, sequence, static_cast<int>(blockIdx.y) % a.n_kv_heads,
                             static_cast<int>(blockIdx.y) / a.n_kv_heads * kRows);
  if (tile.n_pairs <= 0 || a.q_starts[sequence + 1] - tile.first_row != 1) return;
  const int kv_len = tile.end;
  const Splits splits = SplitsOf(tile.Seen(a, 0));
  for (int split = static_cast<int>(blockIdx.x); split < splits.n;
       split += static_cast<int>(gridDim.x)) {
    tile.begin = splits.begin + split * splits.tokens;
    tile.end = split + 1 < splits.n ? tile.begin + splits.tokens : kv_len;
    Attend<T, P, kRows>(a, tile, split, splits.n);
  }
}

template <typename P, int kRows>
size_t SharedBytes(int d) {
  return kRows * static_cast<size_t>(Columns<float>(d) + kTokens + 1) * sizeof(float) +
         2 * kTokens * static_cast<size_t>(Stride<P>(d)) * sizeof(P);
}

// f(types of queries and of pages): one of 16 bits in both has its own kernels.
template <typename F>
void ForTypes(DType type, DType kv_type, const F& f) {
  CHECK(type == DType::kF32 || kv_type == DType::kF32)
      << "queries of " << Name(type) << ", pages of " << Name(kv_type);
  ForElement(type == DType::kF32 ? kv_type : type, [&](auto element) {
    type == DType::kF32 ? f(float(), element) : f(element, float());
  });
}

}  // namespace

void LaunchFmaTiles(const AttentionArgs& args, const AttentionShape& shape, DType type,
                    DType kv_type, cudaStream_t stream) {
  constexpr int kRows = 16;
  ForTypes(type, kv_type, [&]<typename T, typename P>(T, P) {
    Launch<FmaTilesKernel<T, P, kRows>>(
        {dim3{static_cast<unsigned>(TileSlots(shape, args, kRows)),
              static_cast<unsigned>(args.n_kv_heads), 1},
         dim3{kAttentionThreads, 1, 1}, SharedBytes<P, kRows>(args.d), stream},
        args);
  });
}

void LaunchFmaSplits(const AttentionArgs& args, const AttentionShape& shape, DType type,
                     DType kv_type, cudaStream_t stream) {
  ForTypes(type, kv_type, [&]<typename T, typename P>(T, P) {
    const auto launch = [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      Launch<FmaSplitsKernel<T, P, kRows>>(
          {SplitGrid(args, shape, kRows), dim3{kAttentionThreads, 1, 1},
           SharedBytes<P, kRows>(args.d), stream},
          args);
    };
    args.group <= 4 ? launch(std::integral_constant<int, 4>())
                    : launch(std::integral_constant<int, 16>());
  });
}

}  // namespace trireme::cuda
