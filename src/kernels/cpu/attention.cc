#include "kernels/cpu/attention.h"

#include <algorithm>

namespace trireme::cpu {
namespace {

constexpr int64_t kForkFma = 128 * 1024;  // multiply-adds: fewer are done without a fork

struct HeadRange {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// The query heads that read KV head `kv_head`: those i with (head_offset + i) / group == kv_head.
HeadRange QueryHeads(const HeadMap& heads, int64_t kv_head) {
  const int64_t begin = kv_head * heads.group - heads.head_offset;
  return {std::clamp<int64_t>(begin, 0, heads.n_heads),
          std::clamp<int64_t>(begin + heads.group, 0, heads.n_heads)};
}

void CheckPages(const KvLayer& kv, const HeadMap& heads, int64_t d) {
  CHECK(kv.k.dtype() == kv.v.dtype());
  CHECK(kv.k.dtype() != DType::kI32);
  CHECK(kv.k.rank() == 4 && kv.v.rank() == 4);
  CHECK(kv.k.dim(1) == heads.n_kv_heads && kv.v.dim(1) == heads.n_kv_heads);
  CHECK(kv.k.dim(2) == d && kv.k.dim(3) == kKvBlockSize);
  CHECK(kv.v.dim(2) == kKvBlockSize && kv.v.dim(3) == d);
}

char* At(const Tensor& t, int64_t element) {
  return static_cast<char*>(t.raw()) + element * static_cast<int64_t>(SizeOf(t.dtype()));
}

}  // namespace

struct AttentionDriver::Call {
  Tensor y, q;
  KvLayer kv;
  const AttentionPlan& plan;
  const HeadMap& heads;
  int64_t d;
  float scale;
};

void AttentionDriver::RopeStoreKv(Tensor q, KvLayer kv, Tensor qkv, Tensor cos, Tensor sin,
                                  Tensor slots, const HeadMap& heads) {
  const int64_t tokens = qkv.dim(0);
  const int64_t d = qkv.dim(1) / (heads.n_heads + 2 * heads.n_kv_heads);
  CHECK_EQ(qkv.dim(1), d * (heads.n_heads + 2 * heads.n_kv_heads));
  CheckPages(kv, heads, d);
  if (tokens == 0) return;
  const RopeArgs args = {.q = q.raw(),
                         .qkv = qkv.raw(),
                         .type = q.dtype(),
                         .cos = cos.f32(),
                         .sin = sin.f32(),
                         .slots = slots.i32(),
                         .k_pages = kv.k.raw(),
                         .v_pages = kv.v.raw(),
                         .kv_type = kv.k.dtype(),
                         .n = heads.n_heads,
                         .kv = heads.n_kv_heads,
                         .d = d};
  constexpr int64_t kTokens = 4;  // of one item
  pool_.For((tokens + kTokens - 1) / kTokens, [&](int64_t i, int) {
    kernels_.rope_store_kv(args, i * kTokens, std::min(tokens, (i + 1) * kTokens));
  });
}

void AttentionDriver::CutItems(const int32_t* starts, int64_t n_sequences, const HeadMap& heads,
                               int64_t rows) {
  items_.clear();
  for (int32_t s = 0; s < n_sequences; ++s) {
    const int64_t n = starts[s + 1] - starts[s];
    for (int32_t head = 0; head < heads.n_kv_heads; ++head) {
      const int64_t pairs = n * QueryHeads(heads, head).size();
      for (int64_t p = 0; p < pairs; p += rows) {
        items_.push_back({s, head, p, static_cast<int>(std::min(rows, pairs - p))});
      }
    }
  }
}

void AttentionDriver::Run(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan, float scale,
                          const HeadMap& heads) {
  const int64_t n_sequences = plan.kv_lens.dim(0);
  if (q.empty() || n_sequences == 0) return;
  const int64_t d = q.dim(1) / heads.n_heads;
  CheckPages(kv, heads, d);
  CHECK_GT(plan.window, 0);
  const int32_t* starts = plan.q_starts.i32();
  const int32_t* kv_lens = plan.kv_lens.i32();
  int64_t work = 0;  // multiply-adds, about
  for (int64_t s = 0; s < n_sequences; ++s) {
    const int64_t n = starts[s + 1] - starts[s];
    CHECK_LE(n, kv_lens[s]);
    work += 2 * n * std::min<int64_t>(kv_lens[s], plan.window + n) * q.dim(1);
  }
  const bool fork = work >= kForkFma;

  // Fewer rows a piece where that gives every thread one.
  int64_t rows = kMaxQueryRows;
  do {
    CutItems(starts, n_sequences, heads, rows);
    rows /= 2;
  } while (fork && static_cast<int>(items_.size()) < pool_.size() && rows > 0);

  const Call call = {y, q, kv, plan, heads, d, scale};
  const int64_t scratch_size = (AttentionScratch(d) + 15) / 16 * 16;
  float* scratch = threads_.Get<float>(pool_.size() * scratch_size);
  const auto attend = [&](int64_t i, int thread) {
    AttendItem(call, items_[static_cast<size_t>(i)], scratch + thread * scratch_size);
  };
  pool_.For(static_cast<int64_t>(items_.size()), attend, fork);
}

void AttentionDriver::AttendItem(const Call& call, const Item& item, float* scratch) {
  const HeadRange group = QueryHeads(call.heads, item.kv_head);
  const int32_t* starts = call.plan.q_starts.i32();
  const int64_t first_row = starts[item.sequence];
  const int64_t n = starts[item.sequence + 1] - first_row;
  const int64_t before = call.plan.kv_lens.i32()[item.sequence] - n;  // tokens of earlier steps
  const int64_t page = item.kv_head * kKvBlockSize * call.d;
  AttentionTile tile;
  tile.n_rows = item.n_pairs;
  for (int p = 0; p < item.n_pairs; ++p) {
    const int64_t row = (item.first_pair + p) / group.size();
    const int64_t head = group.begin + (item.first_pair + p) % group.size();
    const int64_t element = ((first_row + row) * call.heads.n_heads + head) * call.d;
    tile.q[p] = At(call.q, element);
    tile.y[p] = At(call.y, element);
    tile.visible[p] = static_cast<int32_t>(before + row + 1);
  }
  tile.window = call.plan.window;
  tile.blocks = call.plan.block_table.i32() + item.sequence * call.plan.block_table.dim(1);
  tile.type = call.q.dtype();
  tile.k_pages = At(call.kv.k, page);
  tile.v_pages = At(call.kv.v, page);
  tile.block_stride = call.heads.n_kv_heads * kKvBlockSize * call.d;
  tile.kv_type = call.kv.k.dtype();
  tile.d = call.d;
  tile.scale = call.scale;
  tile.scratch = scratch;
  kernels_.attend(tile);
}

}  // namespace trireme::cpu
