// Rotary positions fused with the split of qkv and the write of keys and values into their pages.
// Reads qkv once and writes every element once: bound by bandwidth.
#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/gpu.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

struct RopeArgs {
  void* q;
  void* k_pages;
  void* v_pages;
  const void* qkv;
  const float* cos;
  const float* sin;
  const int32_t* slots;
  int64_t n_tokens;
  int n_heads, n_kv_heads, d;
};

// A thread has N pairs of a query or key head, or N values.
template <typename T, typename P, int N>
__global__ void RopeStoreKernel(RopeArgs a) {
  const int half = a.d / 2;
  const int packs = half / N;  // of half a head
  const int n_rotated = (a.n_heads + a.n_kv_heads) * packs;
  const int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (item >= n_rotated + 2 * a.n_kv_heads * packs) return;
  for (int64_t t = blockIdx.y; t < a.n_tokens; t += gridDim.y) {
    const T* row = static_cast<const T*>(a.qkv) + t * (a.n_heads + 2 * a.n_kv_heads) * a.d;
    const int64_t slot = a.slots[t];
    // where a KV head's row of this token is
    const auto page_row = [&](int head) {
      return ((slot / kKvBlockSize * a.n_kv_heads + head) * kKvBlockSize + slot % kKvBlockSize) *
             a.d;
    };
    if (item >= n_rotated) {
      if (slot < 0) continue;
      const int head = (item - n_rotated) / (2 * packs);
      const int i = (item - n_rotated) % (2 * packs) * N;
      const auto in =
          *reinterpret_cast<const Pack<T, N>*>(row + (a.n_heads + a.n_kv_heads + head) * a.d + i);
      Pack<P, N> out;
      GPU_UNROLL
      for (int j = 0; j < N; ++j) out.x[j] = FromFloat<P>(ToFloat(in.x[j]));
      *reinterpret_cast<Pack<P, N>*>(static_cast<P*>(a.v_pages) + page_row(head) + i) = out;
      continue;
    }
    const int head = item / packs;
    const int i = item % packs * N;
    const bool is_key = head >= a.n_heads;
    if (is_key && slot < 0) continue;
    const auto first = *reinterpret_cast<const Pack<T, N>*>(row + head * a.d + i);
    const auto second = *reinterpret_cast<const Pack<T, N>*>(row + head * a.d + half + i);
    const auto cos = *reinterpret_cast<const Pack<float, N>*>(a.cos + t * half + i);
    const auto sin = *reinterpret_cast<const Pack<float, N>*>(a.sin + t * half + i);
    float x[N], y[N];  // x' = x cos - y sin, y' = y cos + x sin; the second product is fused
    GPU_UNROLL
    for (int j = 0; j < N; ++j) {
      const float u = ToFloat(first.x[j]), v = ToFloat(second.x[j]);
      x[j] = __fmaf_rn(u, cos.x[j], -__fmul_rn(v, sin.x[j]));
      y[j] = __fmaf_rn(v, cos.x[j], __fmul_rn(u, sin.x[j]));
    }
    const auto store = [&](auto* to) {
      using U = std::remove_pointer_t<decltype(to)>;
      Pack<U, N> a_out, b_out;
      GPU_UNROLL
      for (int j = 0; j < N; ++j) {
        a_out.x[j] = FromFloat<U>(x[j]);
        b_out.x[j] = FromFloat<U>(y[j]);
      }
      *reinterpret_cast<Pack<U, N>*>(to + i) = a_out;
      *reinterpret_cast<Pack<U, N>*>(to + half + i) = b_out;
    };
    if (is_key) {
      store(static_cast<P*>(a.k_pages) + page_row(head - a.n_heads));
    } else {
      store(static_cast<T*>(a.q) + (t * a.n_heads + head) * a.d);
    }
  }
}

template <typename T, typename P>
void Run(const RopeArgs& args, cudaStream_t stream) {
  const auto launch = [&](auto pack) {
    constexpr int kN = decltype(pack)::value;
    const int64_t items = int64_t{args.n_heads + 2 * args.n_kv_heads} * args.d / 2 / kN +
                          int64_t{args.n_kv_heads} * args.d / 2 / kN;
    const auto threads =
        static_cast<unsigned>(std::min<int64_t>(kThreads, DivideUp(items, kWarp) * kWarp));
    Launch<RopeStoreKernel<T, P, kN>>(
        {dim3{static_cast<unsigned>(DivideUp(items, threads)),
              static_cast<unsigned>(std::min(args.n_tokens, kMostBlocks)), 1},
         dim3{threads, 1, 1}, 0, stream},
        args);
  };
  args.d / 2 % kPack<T> == 0 ? launch(std::integral_constant<int, kPack<T>>())
                             : launch(std::integral_constant<int, 1>());
}

}  // namespace

void RopeStoreKv(Tensor q, KvLayer kv, Tensor qkv, Tensor cos, Tensor sin, Tensor slots,
                 const HeadMap& heads, cudaStream_t stream) {
  const int64_t d = qkv.dim(1) / (heads.n_heads + 2 * heads.n_kv_heads);
  CHECK_EQ(qkv.dim(1), d * (heads.n_heads + 2 * heads.n_kv_heads));
  CHECK_EQ(d % 2, 0);
  CHECK(kv.k.dim(1) == heads.n_kv_heads && kv.k.dim(2) == kKvBlockSize && kv.k.dim(3) == d);
  if (qkv.dim(0) == 0) return;
  const RopeArgs args = {.q = q.raw(),
                         .k_pages = kv.k.raw(),
                         .v_pages = kv.v.raw(),
                         .qkv = qkv.raw(),
                         .cos = cos.f32(),
                         .sin = sin.f32(),
                         .slots = slots.i32(),
                         .n_tokens = qkv.dim(0),
                         .n_heads = static_cast<int>(heads.n_heads),
                         .n_kv_heads = static_cast<int>(heads.n_kv_heads),
                         .d = static_cast<int>(d)};
  ForElement(qkv.dtype(), [&]<typename T>(T) {
    ForElement(kv.k.dtype(), [&]<typename P>(P) { Run<T, P>(args, stream); });
  });
}

}  // namespace trireme::cuda
