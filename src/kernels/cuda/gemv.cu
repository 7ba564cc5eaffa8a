// Linear for a few rows: bound by the bandwidth at which the weight is read, each element once.
//
// One warp, or several that share its columns, has a few outputs; a lane takes every 32nd piece of
// 16 bytes of their weight rows, with several loads in flight, and multiplies them with up to 8
// rows of x, which stay in L1.
#include <algorithm>

#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/sum_tree.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 8;  // of a block
// Outputs are shared by more warps until there are this many, to have enough loads under way: a
// guess for 132 multiprocessors, to be measured. It may not depend on the rows: the number of warps
// that share an output decides in which order its sum is added.
constexpr int64_t kWarpsWanted = 2048;

struct GemvArgs {
  void* y;  // [rows,n_out], or parts of it, part_stride elements apart
  DType y_type;
  const void* x;      // [rows,n_in]
  bool x_packs;       // its rows can be read in packs
  const void* w;      // [n_out,w_stride]
  const float* bias;  // [n_out] or null
  int rows;           // at most the kernel's kRows
  int n_in, n_out;
  int64_t w_stride, part_stride;
  int split;                          // warps that share outputs
  int part_bounds[kMaxSumDepth + 1];  // columns of each part
};

// Outputs of a warp: more where there are more rows, so that what is read of x is used for several.
template <int kRows>
constexpr int kOuts = kRows < 4 ? kRows : 4;

template <typename X, int N>
__device__ __forceinline__ void LoadFloats(const X* from, bool pack, float* to) {
  if (pack) {
    const Pack<X, N> p = *reinterpret_cast<const Pack<X, N>*>(from);
    GPU_UNROLL
    for (int j = 0; j < N; ++j) to[j] = ToFloat(p.x[j]);
  } else {
    GPU_UNROLL
    for (int j = 0; j < N; ++j) to[j] = ToFloat(from[j]);
  }
}

template <typename W, typename X, int kRows>
__global__ void __launch_bounds__(kWarps* kWarp, 2) GemvKernel(GemvArgs args) {
  constexpr int N = kPack<W>;
  constexpr int O = kOuts<kRows>;
  constexpr int kAhead = 4 / O;  // packs of a weight row that are loaded at once
  constexpr int kSums = kRows * O;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int groups = kWarps / args.split;  // of outputs, in this block
  const int first_out = (static_cast<int>(blockIdx.x) * groups + warp / args.split) * O;
  const int part = static_cast<int>(blockIdx.y);
  const int begin = args.part_bounds[part], end = args.part_bounds[part + 1];

  // Outputs and rows that are not there repeat the last one; they are not written.
  const W* w[O];
  const X* x[kRows];
  GPU_UNROLL
  for (int o = 0; o < O; ++o) {
    const int out = first_out + o < args.n_out ? first_out + o : args.n_out - 1;
    w[o] = static_cast<const W*>(args.w) + out * args.w_stride;
  }
  GPU_UNROLL
  for (int t = 0; t < kRows; ++t) {
    const int row = t < args.rows ? t : args.rows - 1;
    x[t] = static_cast<const X*>(args.x) + static_cast<int64_t>(row) * args.n_in;
  }

  float sums[kSums] = {};
  // The whole packs of the part's columns.
  const int first_pack = (begin + N - 1) / N * N, end_pack = end / N * N;
  const int step = args.split * kWarp * N;
  for (int column = first_pack + (warp % args.split * kWarp + lane) * N; column < end_pack;
       column += kAhead * step) {
    Pack<W, N> packs[kAhead][O];
    GPU_UNROLL
    for (int a = 0; a < kAhead; ++a) {
      if (column + a * step >= end_pack) break;
      GPU_UNROLL
      for (int o = 0; o < O; ++o) {
        packs[a][o] = LoadOnce(reinterpret_cast<const Pack<W, N>*>(w[o] + column + a * step));
      }
    }
    GPU_UNROLL
    for (int a = 0; a < kAhead; ++a) {
      if (column + a * step >= end_pack) break;
      GPU_UNROLL
      for (int t = 0; t < kRows; ++t) {
        float xs[N];
        LoadFloats<X, N>(x[t] + column + a * step, args.x_packs, xs);
        GPU_UNROLL
        for (int o = 0; o < O; ++o) {
          GPU_UNROLL
          for (int j = 0; j < N; ++j) {
            float& sum = sums[t * O + o];
            sum = __fmaf_rn(xs[j], ToFloat(packs[a][o].x[j]), sum);
          }
        }
      }
    }
  }
  // The columns before and after them, one a lane.
  if (warp % args.split == 0) {
    const int head_end = first_pack < end ? first_pack : end;
    const int tail = end_pack > head_end ? end_pack : head_end;
    const auto add = [&](int column) {
      GPU_UNROLL
      for (int t = 0; t < kRows; ++t) {
        GPU_UNROLL
        for (int o = 0; o < O; ++o) {
          float& sum = sums[t * O + o];
          sum = __fmaf_rn(ToFloat(x[t][column]), ToFloat(w[o][column]), sum);
        }
      }
    };
    if (begin + lane < head_end) add(begin + lane);
    if (tail + lane < end) add(tail + lane);
  }

  float* shared = Shared<float>();  // [kWarps][kSums]
  const float sum = WarpSums<kSums>(sums);
  constexpr int kLanes = kWarp / kSums;  // that have the same sum
  if (lane % kLanes == 0) shared[warp * kSums + lane / kLanes] = sum;
  __syncthreads();
  const int i = static_cast<int>(threadIdx.x);
  const int group = i / kSums, row = i % kSums / O;
  const int out = (static_cast<int>(blockIdx.x) * groups + group) * O + i % O;
  if (group >= groups || row >= args.rows || out >= args.n_out) return;
  float result = 0;
  for (int s = 0; s < args.split; ++s) {
    result += shared[(group * args.split + s) * kSums + i % kSums];
  }
  if (args.bias != nullptr) result += args.bias[out];
  const int64_t at = part * args.part_stride + static_cast<int64_t>(row) * args.n_out + out;
  Store(args.y, args.y_type, at, result);
}

template <typename W, typename X, int kRows>
void LaunchGemv(const GemvArgs& args, int n_parts, cudaStream_t stream) {
  const int64_t outs = int64_t{kWarps} / args.split * kOuts<kRows>;  // of a block
  const Grid grid = {
      dim3{static_cast<unsigned>(DivideUp(args.n_out, outs)), static_cast<unsigned>(n_parts), 1},
      dim3{kWarps * kWarp, 1, 1}, kWarps * kRows * kOuts<kRows> * sizeof(float), stream};
  Launch<GemvKernel<W, X, kRows>>(grid, args);
}

template <typename W, typename X>
void GemvOf(Tensor y, Tensor x, const CudaWeight& w, cudaStream_t stream) {
  constexpr int N = kPack<W>;
  const int64_t rows = x.dim(0), n_in = w.n_in(), n_out = w.n_out();
  GemvArgs args = {
      .y_type = y.dtype(),
      .x_packs = n_in % N == 0 && reinterpret_cast<uintptr_t>(x.raw()) % sizeof(Pack<X, N>) == 0,
      .w = w.rows().raw(),
      .bias = w.bias(),
      .n_in = static_cast<int>(n_in),
      .n_out = static_cast<int>(n_out),
      .w_stride = w.stride(),
      .part_stride = rows * n_out,
      .split = 1};
  for (int p = 0; p <= w.n_parts(); ++p) {
    args.part_bounds[p] = static_cast<int>(w.part_bounds()[static_cast<size_t>(p)]);
  }
  while (args.split < kWarps && DivideUp(n_out, 4) * args.split < kWarpsWanted &&
         n_in >= 2 * args.split * kWarp * N) {
    args.split *= 2;
  }
  for (int64_t row = 0; row < rows; row += kGemvRows) {
    args.rows = static_cast<int>(std::min<int64_t>(kGemvRows, rows - row));
    args.x = static_cast<const X*>(x.raw()) + row * n_in;
    args.y = static_cast<char*>(y.raw()) + static_cast<size_t>(row * n_out) * SizeOf(y.dtype());
    const auto launch = args.rows > 4   ? LaunchGemv<W, X, 8>
                        : args.rows > 2 ? LaunchGemv<W, X, 4>
                        : args.rows > 1 ? LaunchGemv<W, X, 2>
                                        : LaunchGemv<W, X, 1>;
    launch(args, w.n_parts(), stream);
  }
}

}  // namespace

void Gemv(Tensor y, Tensor x, const CudaWeight& w, cudaStream_t stream) {
  if (y.empty()) return;
  ForElement(w.dtype(), [&]<typename W>(W) {
    ForElement(x.dtype(), [&]<typename X>(X) { GemvOf<W, X>(y, x, w, stream); });
  });
}

}  // namespace trireme::cuda
