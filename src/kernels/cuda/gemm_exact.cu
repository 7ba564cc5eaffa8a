// See gemm_exact.h. A chunk's columns are taken in slices of 16 from its own beginning on, the last
// slice filled up with zeros; a slice is one mma.sync where W has 16 bits and x has its type or is
// cut into terms of it, and 16 fused multiply-adds in ascending order otherwise: the CPU's
// arithmetic. The chunks' sums are added along `merges` in registers, so that a tile of outputs is
// written once; or, to have more blocks where there are few rows, all are written and added by
// SumParts, which is the same additions.
//
// Bound by the tensor cores for many rows, by the bandwidth at which W is read for few.
#include <algorithm>
#include <numeric>

#include "kernels/cuda/gemm_exact.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/mma.cuh"

namespace trireme::cuda {
namespace {

constexpr int kSlice = 16;
constexpr int kMostDepth = 6;                   // sums that are held at once: enough for 32 chunks
constexpr int64_t kFewRows = 8, kFewOuts = 16;  // of a tile for few rows
constexpr int64_t kEnoughBlocks = 1024;         // with fewer, chunks are spread over blocks, too

struct ExactArgs {
  void* y;  // [n_parts,rows,n_out]
  DType y_type;
  const void* x;  // [kTerms,rows,x_stride]: terms that add up to x, the largest first
  const void* w;  // [n_out,w_stride]
  const float* bias;
  int rows, n_out;
  int64_t x_stride, w_stride, part_stride;
  bool x_packs;                           // its rows begin on 16 bytes
  int part_chunks[kMostExactChunks + 1];  // where each part's chunks begin
  int bounds[kMostExactChunks + 1];       // the chunks' columns
  uint8_t merges[kMostExactChunks];
};

// ---- tiles: how a block multiplies what lies in shared memory ----
//
// kOuts rows of W and kTerms times kRows rows of x, kColumns columns of each. A thread has kGroups
// x kEach sums; ForEach calls f(group, index, out, row) for each.

constexpr int kColumns = 64;
// Rows in shared memory: an odd number of 16 bytes apart, so that 8 of them lie in 8 bank groups.
template <typename P>
constexpr int kStride = kColumns + kPack<P>;

template <typename T, int kStagesOfTile, int kOutWarps, int kRowWarps, int kM, int kN,
          int kTermsOfX>
struct MmaTile {
  using W = T;
  using X = T;
  static constexpr int kStages = kStagesOfTile, kTerms = kTermsOfX;
  static constexpr int kThreads = kOutWarps * kRowWarps * kWarp;
  static constexpr int kOuts = kOutWarps * kM * 16, kRows = kRowWarps * kN * 8;
  static constexpr int kGroups = kM * kN, kEach = 4;

  static __device__ __forceinline__ int FirstOut() {
    return static_cast<int>(threadIdx.x) / kWarp % kOutWarps * kM * 16;
  }
  static __device__ __forceinline__ int FirstRow() {
    return static_cast<int>(threadIdx.x) / kWarp / kOutWarps * kN * 8;
  }

  static __device__ __forceinline__ void Multiply(float (&sums)[kGroups][kEach], const T* w,
                                                  const T* x, int n_slices) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    w += (FirstOut() + lane % 16) * kStride<T> + lane / 16 * 8;
    x += (FirstRow() + lane / 16 * 8 + lane % 8) * kStride<T> + lane / 8 % 2 * 8;
    GPU_UNROLL
    for (int s = 0; s < kColumns / kSlice; ++s) {
      if (s >= n_slices) break;
      uint32_t a[kM][4];
      GPU_UNROLL
      for (int m = 0; m < kM; ++m) {
        LoadMatrices<false>(a[m], w + m * 16 * kStride<T> + s * kSlice);
      }
      GPU_UNROLL
      for (int term = kTerms - 1; term >= 0; --term) {  // the smallest first
        const T* from = x + term * kRows * kStride<T> + s * kSlice;
        if constexpr (kN == 1) {
          uint32_t b[2];
          LoadMatrices<false>(b, from);
          GPU_UNROLL
          for (int m = 0; m < kM; ++m) Mma<T>(sums[m], a[m], b[0], b[1]);
        } else {
          GPU_UNROLL
          for (int n = 0; n < kN; n += 2) {
            uint32_t b[4];
            LoadMatrices<false>(b, from + n * 8 * kStride<T>);
            GPU_UNROLL
            for (int m = 0; m < kM; ++m) {
              Mma<T>(sums[m * kN + n], a[m], b[0], b[1]);
              Mma<T>(sums[m * kN + n + 1], a[m], b[2], b[3]);
            }
          }
        }
      }
    }
  }

  template <typename F>
  static __device__ __forceinline__ void ForEach(const F& f) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    GPU_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      GPU_UNROLL
      for (int i = 0; i < kEach; ++i) {
        f(group, i, FirstOut() + group / kN * 16 + i / 2 * 8 + lane / 4,
          FirstRow() + group % kN * 8 + lane % 4 * 2 + i % 2);
      }
    }
  }
};

// A thread has kO outputs of kR rows.
template <typename WType, int kOutThreads, int kRowThreads, int kO, int kR>
struct FmaTile {
  using W = WType;
  using X = float;
  static constexpr int kStages = 2, kTerms = 1;
  static constexpr int kThreads = kOutThreads * kRowThreads;
  static constexpr int kOuts = kOutThreads * kO, kRows = kRowThreads * kR;
  static constexpr int kGroups = kO, kEach = kR;
  static constexpr int kAtOnce = 4;

  static __device__ __forceinline__ int Out(int o) {
    return static_cast<int>(threadIdx.x) % kOutThreads + o * kOutThreads;
  }
  static __device__ __forceinline__ int Row(int r) {
    return static_cast<int>(threadIdx.x) / kOutThreads + r * kRowThreads;
  }

  static __device__ __forceinline__ void Multiply(float (&sums)[kGroups][kEach], const W* w,
                                                  const float* x, int n_slices) {
    GPU_NO_UNROLL
    for (int column = 0; column < n_slices * kSlice; column += kAtOnce) {
      Pack<float, kAtOnce> xs[kR];
      GPU_UNROLL
      for (int r = 0; r < kR; ++r) {
        xs[r] =
            *reinterpret_cast<const Pack<float, kAtOnce>*>(x + Row(r) * kStride<float> + column);
      }
      GPU_UNROLL
      for (int o = 0; o < kO; ++o) {
        const auto ws =
            *reinterpret_cast<const Pack<W, kAtOnce>*>(w + Out(o) * kStride<W> + column);
        GPU_UNROLL
        for (int j = 0; j < kAtOnce; ++j) {
          GPU_UNROLL
          for (int r = 0; r < kR; ++r) {
            sums[o][r] = __fmaf_rn(xs[r].x[j], ToFloat(ws.x[j]), sums[o][r]);
          }
        }
      }
    }
  }

  template <typename F>
  static __device__ __forceinline__ void ForEach(const F& f) {
    GPU_UNROLL
    for (int o = 0; o < kO; ++o) {
      GPU_UNROLL
      for (int r = 0; r < kR; ++r) f(o, r, Out(o), Row(r));
    }
  }
};

// ---- the kernel: a block has a tile of one part ----

// Columns [column, column + kColumns) of kRows rows into shared memory: row r is row(r) of `from`,
// zeros where that is negative, and zeros from column `end` on.
template <typename Tile, int kRows, typename P, typename Row>
__device__ __forceinline__ void LoadTile(P* shared, const P* from, int64_t stride, bool packs,
                                         int column, int end, const Row& row) {
  constexpr int kPacks = kColumns / kPack<P>;
  static_assert(kRows * kPacks % Tile::kThreads == 0);
  GPU_UNROLL
  for (int round = 0; round < kRows * kPacks / Tile::kThreads; ++round) {
    const int i = static_cast<int>(threadIdx.x) + round * Tile::kThreads;
    const int r = row(i / kPacks), c = column + i % kPacks * kPack<P>;
    P* to = shared + i / kPacks * kStride<P> + i % kPacks * kPack<P>;
    const P* source = from + r * stride + c;
    if (r < 0 || c >= end) {
      CopyAsync(to, from, false);
    } else if (packs && c + kPack<P> <= end) {
      CopyAsync(to, source, true);
    } else {
      Pack<P, kPack<P>> pack;
      GPU_UNROLL
      for (int j = 0; j < kPack<P>; ++j) {
        pack.x[j] = c + j < end ? source[j] : FromFloat<P>(0.0f);
      }
      *reinterpret_cast<Pack<P, kPack<P>>*>(to) = pack;
    }
  }
}

template <typename Tile>
constexpr size_t StageBytes() {
  return Tile::kOuts * kStride<typename Tile::W> * sizeof(typename Tile::W) +
         Tile::kTerms * Tile::kRows * kStride<typename Tile::X> * sizeof(typename Tile::X);
}

template <typename Tile, int kDepth>
__global__ void __launch_bounds__(Tile::kThreads) ExactKernel(const ExactArgs args) {
  using W = typename Tile::W;
  using X = typename Tile::X;
  constexpr int kBelow = kDepth > 1 ? kDepth - 1 : 1;
  const int first_out = static_cast<int>(blockIdx.x) * Tile::kOuts;
  const int first_row = static_cast<int>(blockIdx.y) * Tile::kRows;
  const int part = static_cast<int>(blockIdx.z);
  const int first_chunk = args.part_chunks[part], end_chunk = args.part_chunks[part + 1];
  const auto stage = [](int i) {
    return Shared<unsigned char>() + i % Tile::kStages * StageBytes<Tile>();
  };
  const auto x_of = [](unsigned char* stage) {
    return reinterpret_cast<X*>(stage + Tile::kOuts * kStride<W> * sizeof(W));
  };

  // Loads go through the same columns as the sums, some stages ahead.
  int loads = 0, load_chunk = first_chunk, load_column = args.bounds[first_chunk];
  const auto load = [&] {
    while (load_chunk < end_chunk && load_column >= args.bounds[load_chunk + 1]) {
      load_column = args.bounds[++load_chunk];
    }
    if (load_chunk < end_chunk) {
      const int end = args.bounds[load_chunk + 1];
      unsigned char* to = stage(loads++);
      LoadTile<Tile, Tile::kOuts>(
          reinterpret_cast<W*>(to), static_cast<const W*>(args.w), args.w_stride,
          load_column % kPack<W> == 0, load_column, end,
          [&](int i) { return first_out + i < args.n_out ? first_out + i : -1; });
      LoadTile<Tile, Tile::kTerms * Tile::kRows>(
          x_of(to), static_cast<const X*>(args.x), args.x_stride,
          args.x_packs && load_column % kPack<X> == 0, load_column, end, [&](int i) {
            const int row = first_row + i % Tile::kRows;
            return row < args.rows ? i / Tile::kRows * args.rows + row : -1;
          });
      load_column += kColumns;
    }
    CommitCopies();
  };
  GPU_UNROLL
  for (int i = 0; i < Tile::kStages - 1; ++i) load();

  float sums[Tile::kGroups][Tile::kEach];
  float below[kBelow][Tile::kGroups][Tile::kEach];  // of chunks before, yet to be added
  int n_below = 0, n_done = 0;
  GPU_NO_UNROLL
  for (int chunk = first_chunk; chunk < end_chunk; ++chunk) {
    Tile::ForEach([&](int g, int i, int, int) { sums[g][i] = 0; });
    const int end = args.bounds[chunk + 1];
    GPU_NO_UNROLL
    for (int column = args.bounds[chunk]; column < end; column += kColumns) {
      AwaitCopies<Tile::kStages - 2>();
      __syncthreads();  // this stage is here, and the one before it is done with
      load();
      unsigned char* from = stage(n_done++);
      const int left = end - column < kColumns ? end - column : kColumns;
      Tile::Multiply(sums, reinterpret_cast<W*>(from), x_of(from), (left + kSlice - 1) / kSlice);
    }
    if constexpr (kDepth > 1) {
      for (int merge = args.merges[chunk]; merge > 0; --merge) {
        --n_below;
        GPU_UNROLL
        for (int level = 0; level < kBelow; ++level) {
          if (level != n_below) continue;
          Tile::ForEach(
              [&](int g, int i, int, int) { sums[g][i] = below[level][g][i] + sums[g][i]; });
        }
      }
      if (chunk + 1 < end_chunk) {
        GPU_UNROLL
        for (int level = 0; level < kBelow; ++level) {
          if (level != n_below) continue;
          Tile::ForEach([&](int g, int i, int, int) { below[level][g][i] = sums[g][i]; });
        }
        ++n_below;
      }
    }
  }
  AwaitCopies<0>();

  Tile::ForEach([&](int g, int i, int tile_out, int tile_row) {
    const int out = first_out + tile_out, row = first_row + tile_row;
    if (out >= args.n_out || row >= args.rows) return;
    const float y = args.bias != nullptr ? sums[g][i] + args.bias[out] : sums[g][i];
    const int64_t at = part * args.part_stride + static_cast<int64_t>(row) * args.n_out + out;
    Store(args.y, args.y_type, at, y);
  });
}

// ---- launches ----

// The most sums that are held at once while a part's chunks are added.
int Depth(const CudaWeight& w) {
  int depth = 1, part = 0, below = 0;
  for (size_t chunk = 0; chunk < w.merges().size(); ++chunk) {
    const std::vector<int>& parts = w.part_chunks();
    if (static_cast<int>(chunk) == parts[static_cast<size_t>(part) + 1]) {
      ++part;
      below = 0;
    }
    depth = std::max(depth, below + 1);
    below += 1 - w.merges()[chunk];
  }
  return depth;
}

template <typename Tile, int kDepth>
void LaunchExact(const ExactArgs& args, int n_parts, cudaStream_t stream) {
  Launch<ExactKernel<Tile, kDepth>>(
      {dim3{static_cast<unsigned>(DivideUp(args.n_out, Tile::kOuts)),
            static_cast<unsigned>(DivideUp(args.rows, Tile::kRows)),
            static_cast<unsigned>(n_parts)},
       dim3{Tile::kThreads, 1, 1}, Tile::kStages * StageBytes<Tile>(), stream},
      args);
}

template <typename T, int kTerms>
void LaunchMma(const ExactArgs& args, int n_parts, int depth, cudaStream_t stream) {
  constexpr int kDeepStages = kTerms == 1 ? 3 : 2;
  if (args.rows <= 8)
    return LaunchExact<MmaTile<T, 6, 1, 1, 1, 1, kTerms>, kMostDepth>(args, n_parts, stream);
  if (args.rows <= 64)
    return LaunchExact<MmaTile<T, 3, 2, 2, 1, 4, kTerms>, kMostDepth>(args, n_parts, stream);
  if (depth > 1)
    return LaunchExact<MmaTile<T, 3, 2, 2, 2, 4, kTerms>, kMostDepth>(args, n_parts, stream);
  LaunchExact<MmaTile<T, kDeepStages, 2, 4, 4, 4, kTerms>, 1>(args, n_parts, stream);
}

template <typename W>
void LaunchFma(const ExactArgs& args, int n_parts, cudaStream_t stream) {
  if (args.rows <= 8)
    return LaunchExact<FmaTile<W, 32, 4, 1, 2>, kMostDepth>(args, n_parts, stream);
  LaunchExact<FmaTile<W, 16, 16, 4, 4>, kMostDepth>(args, n_parts, stream);
}

// In which type x is multiplied with W, and in how many terms of it.
struct Mode {
  DType type;
  int n_terms;
  bool mma;  // else by multiply-adds
};
Mode ModeOf(DType x, DType w) {
  if (x == w && w != DType::kF32) return {w, 1, true};
  if (x == DType::kF32 && w == DType::kBF16) return {w, 3, true};
  return {DType::kF32, 1, false};
}

void Multiply(const ExactArgs& args, DType w, const Mode& mode, int n_parts, int depth,
              cudaStream_t stream) {
  switch (w) {
    case DType::kF32:
      return LaunchFma<float>(args, n_parts, stream);
    case DType::kF16:
      return mode.mma ? LaunchMma<F16, 1>(args, n_parts, depth, stream)
                      : LaunchFma<F16>(args, n_parts, stream);
    case DType::kBF16:
      return !mode.mma           ? LaunchFma<Bf16>(args, n_parts, stream)
             : mode.n_terms == 1 ? LaunchMma<Bf16, 1>(args, n_parts, depth, stream)
                                 : LaunchMma<Bf16, 3>(args, n_parts, depth, stream);
    case DType::kI32:
      CHECK(false) << "a weight of integers";
  }
}

// What a weight asks for.
struct Job {
  const CudaWeight& w;
  Mode mode;
  bool as_is;  // x is multiplied where it lies
  int n_chunks, depth;

  Job(DType x, const CudaWeight& weight)
      : w(weight),
        mode(ModeOf(x, weight.dtype())),
        as_is(x == mode.type),
        n_chunks(static_cast<int>(weight.merges().size())),
        depth(Depth(weight)) {}

  // Whether the chunks' sums of so many rows go to scratch memory.
  bool Apart(int64_t rows) const {
    const bool few =
        rows <= kFewRows && DivideUp(w.n_out(), kFewOuts) * w.n_parts() < kEnoughBlocks;
    return n_chunks > w.n_parts() && (few || depth > kMostDepth);
  }

  // Of scratch memory. Each piece begins on 256 bytes.
  static size_t Aligned(int64_t bytes) { return (static_cast<size_t>(bytes) + 255) / 256 * 256; }
  size_t TermBytes(int64_t rows) const {
    const auto element = static_cast<int64_t>(SizeOf(mode.type));
    return as_is ? 0 : Aligned(mode.n_terms * rows * w.stride() * element);
  }
  size_t Bytes(int64_t rows) const {
    return TermBytes(rows) + (Apart(rows) ? Aligned(n_chunks * rows * w.n_out() * 4) : 0);
  }
};

}  // namespace

ExactGemm::ExactGemm(cudaStream_t stream, const Options& options)
    : stream_(stream), options_(options) {}

void ExactGemm::Run(Tensor y, Tensor x, const CudaWeight& w) {
  const int64_t rows = x.dim(0);
  CHECK_LE(w.merges().size(), static_cast<size_t>(kMostExactChunks));
  if (y.empty()) return;
  const Job job(x.dtype(), w);
  // From its first call on a weight has the scratch memory that any call needs.
  const size_t most = std::max(job.Bytes(kFewRows), job.Bytes(std::max(rows, options_.max_rows)));
  const size_t bytes = std::min(most, options_.scratch_bytes);
  if (bytes > scratch_.bytes()) scratch_ = AllocateDevice(bytes);
  for (int64_t row = 0; row < rows;) {
    int64_t n_rows = rows - row;
    while (n_rows > 1 && job.Bytes(n_rows) > bytes) n_rows = (n_rows + 1) / 2;
    CHECK_LE(job.Bytes(n_rows), bytes) << "scratch memory for one row";
    RunSlice(y, x, w, row, n_rows);
    row += n_rows;
  }
}

void ExactGemm::RunSlice(Tensor y, Tensor x, const CudaWeight& w, int64_t first, int64_t n_rows) {
  const Job job(x.dtype(), w);
  const bool apart = job.Apart(n_rows);
  const int64_t n_out = w.n_out();
  const Tensor x_rows = x.Rows(first, first + n_rows);
  if (!job.as_is) {
    CutIntoTerms(Tensor(scratch_.data(), job.mode.type, {job.mode.n_terms, n_rows, w.stride()}),
                 nullptr, x_rows, stream_);
  }
  auto* sums = reinterpret_cast<float*>(scratch_.data() + job.TermBytes(n_rows));
  // Rows of part p of y.
  const auto y_rows = [&](int p) {
    const int64_t at = (p * x.dim(0) + first) * n_out * static_cast<int64_t>(SizeOf(y.dtype()));
    return Tensor(static_cast<std::byte*>(y.raw()) + at, y.dtype(), {n_rows, n_out});
  };

  ExactArgs args = {.y = apart ? sums : y_rows(0).raw(),
                    .y_type = apart ? DType::kF32 : y.dtype(),
                    .x = job.as_is ? x_rows.raw() : scratch_.data(),
                    .w = w.rows().raw(),
                    .bias = apart ? nullptr : w.bias(),
                    .rows = static_cast<int>(n_rows),
                    .n_out = static_cast<int>(n_out),
                    .x_stride = job.as_is ? w.n_in() : w.stride(),
                    .w_stride = w.stride(),
                    .part_stride = (apart ? n_rows : x.dim(0)) * n_out};
  args.x_packs = (reinterpret_cast<uintptr_t>(args.x) |
                  static_cast<size_t>(args.x_stride) * SizeOf(job.mode.type)) %
                     16 ==
                 0;
  std::copy(w.col_bounds().begin(), w.col_bounds().end(), args.bounds);
  if (!apart) {
    std::copy(w.part_chunks().begin(), w.part_chunks().end(), args.part_chunks);
    std::copy(w.merges().begin(), w.merges().end(), args.merges);
    return Multiply(args, w.dtype(), job.mode, w.n_parts(), job.depth, stream_);
  }
  std::iota(args.part_chunks, args.part_chunks + job.n_chunks + 1, 0);
  Multiply(args, w.dtype(), job.mode, job.n_chunks, 1, stream_);
  for (int part = 0; part < w.n_parts(); ++part) {
    const int begin = w.part_chunks()[static_cast<size_t>(part)];
    const int end = w.part_chunks()[static_cast<size_t>(part) + 1];
    PartList list{.n = end - begin};
    for (int chunk = begin; chunk < end; ++chunk) {
      list.parts[chunk - begin] = sums + chunk * n_rows * n_out;
      list.merges[chunk - begin] = w.merges()[static_cast<size_t>(chunk)];
    }
    SumParts(y_rows(part), list, w.bias(), stream_);
  }
}

}  // namespace trireme::cuda
