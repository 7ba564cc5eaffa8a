// Attention: which kernels run for a step.
#include "kernels/cuda/attention_step.cuh"
#include "kernels/cuda/cuda_ops.h"

namespace trireme::cuda {

size_t AttentionWorkspaceBytes(const AttentionShape& largest, const HeadMap& heads, int64_t d) {
  return static_cast<size_t>(largest.n_sequences * heads.n_heads *
                             MostSplits(largest.max_kv_len, kNoWindow) * (d + 2)) *
         sizeof(float);
}

void Attention(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan,
               const AttentionShape& shape, float scale, const HeadMap& heads, void* workspace,
               cudaStream_t stream, AttentionPath path) {
  if (shape.n_tokens == 0 || shape.n_sequences == 0 || heads.n_heads == 0) return;
  const int64_t d = q.dim(1) / heads.n_heads;
  CHECK(HasCudaHead(d)) << "a head size of " << d;
  CHECK(kv.k.dim(1) == heads.n_kv_heads && kv.k.dim(2) == kKvBlockSize && kv.k.dim(3) == d);
  CHECK(kv.k.dtype() == kv.v.dtype() && y.dtype() == q.dtype());
  CHECK_GT(scale, 0.0f);
  CHECK(plan.window > 0 && plan.window <= kNoWindow) << "a window of " << plan.window;
  CHECK_LE(shape.n_sequences, kMostBlocks);
  constexpr float kLog2E = 1.44269504f;
  const bool exact = path == AttentionPath::kExact;
  const AttentionArgs args = {
      .y = y.raw(),
      .q = q.raw(),
      .k_pages = kv.k.raw(),
      .v_pages = kv.v.raw(),
      .q_starts = plan.q_starts.i32(),
      .kv_lens = plan.kv_lens.i32(),
      .block_table = plan.block_table.i32(),
      .max_blocks = static_cast<int>(plan.block_table.dim(1)),
      .n_sequences = static_cast<int>(shape.n_sequences),
      .min_rows = exact ? 1 : 2,
      .n_heads = static_cast<int>(heads.n_heads),
      .n_kv_heads = static_cast<int>(heads.n_kv_heads),
      .group = static_cast<int>(heads.group),
      .head_offset = static_cast<int>(heads.head_offset),
      .d = static_cast<int>(d),
      .window = static_cast<int>(plan.window),
      .scale = scale * kLog2E,
      .partials = static_cast<float*>(workspace),
      .most_splits = static_cast<int>(MostSplits(shape.max_kv_len, plan.window))};
  const bool mma = q.dtype() == kv.k.dtype() && q.dtype() != DType::kF32;
  if (exact || shape.max_rows > 1) {
    mma ? LaunchMmaTiles(args, shape, q.dtype(), stream)
        : LaunchFmaTiles(args, shape, q.dtype(), kv.k.dtype(), stream);
  }
  if (exact) return;
  mma ? LaunchMmaSplits(args, shape, q.dtype(), stream)
      : LaunchFmaSplits(args, shape, q.dtype(), kv.k.dtype(), stream);
  if (args.most_splits > 1) LaunchMerge(args, q.dtype(), stream);
}

}  // namespace trireme::cuda
