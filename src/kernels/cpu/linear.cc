#include "kernels/cpu/linear.h"

#include <algorithm>

namespace trireme::cpu {
namespace {

constexpr int64_t kGroupTiles =
    16;  // row tiles that go through a panel together: their sums stay in L2
constexpr int64_t kForkElements = 8192;   // of x: fewer are packed without a fork
constexpr int64_t kForkFma = 256 * 1024;  // multiply-adds: fewer are done without a fork
constexpr int64_t kPackColumns = 1024;    // columns of x that one item packs

}  // namespace

struct LinearDriver::Call {
  Tensor y, x;
  const PackedWeight& w;
  int64_t rows, k, n_out;
  int64_t n_tiles;
  float* packed_x;

  int64_t RowBegin(int64_t tile) const { return rows * tile / n_tiles; }
  int TileRows(int64_t tile) const { return static_cast<int>(RowBegin(tile + 1) - RowBegin(tile)); }
  const float* TileX(int64_t tile) const { return packed_x + RowBegin(tile) * k; }
};

void LinearDriver::Run(Tensor y, Tensor x, const PackedWeight& w) {
  const int64_t rows = x.dim(0);
  CHECK_EQ(x.dim(1), w.n_in());
  if (w.n_parts() == 1) {
    CHECK_EQ(y.size(), rows * w.n_out());
  } else {
    CHECK(y.rank() == 3 && y.dtype() == DType::kF32);
    CHECK_EQ(y.size(), w.n_parts() * rows * w.n_out());
  }
  if (y.empty()) return;

  const int max_rows = kernels_.max_rows;
  Call call = {.y = y,
               .x = x,
               .w = w,
               .rows = rows,
               .k = w.n_in(),
               .n_out = w.n_out(),
               .n_tiles = (rows + max_rows - 1) / max_rows,
               .packed_x = PackedX(rows, w)};
  PackX(call);
  const int64_t per_thread = StackFloats(w);
  float* scratch = threads_.Get<float>(pool_.size() * per_thread);
  const int64_t n_groups = (call.n_tiles + kGroupTiles - 1) / kGroupTiles;
  const auto run = [&](int64_t item, int thread) {
    const int64_t group = item / w.n_panels();
    RunPanel(call, item % w.n_panels(), call.n_tiles * group / n_groups,
             call.n_tiles * (group + 1) / n_groups, scratch + thread * per_thread);
  };
  pool_.For(n_groups * w.n_panels(), run, rows * call.k * call.n_out >= kForkFma);
}

void LinearDriver::Reserve(int64_t rows, const PackedWeight& w) {
  PackedX(rows, w);
  threads_.Get<float>(pool_.size() * StackFloats(w));
}

int64_t LinearDriver::StackFloats(const PackedWeight& w) const {
  return kGroupTiles * w.stack_depth() * kernels_.max_rows * kPanel;
}

void LinearDriver::PackX(const Call& call) {
  const int64_t slices = (call.k + kPackColumns - 1) / kPackColumns;
  const auto pack = [&](int64_t item, int) {
    const int64_t tile = item / slices, k = item % slices * kPackColumns;
    const int rows = call.TileRows(tile);
    const int64_t from = call.RowBegin(tile) * call.k + k;
    kernels_.pack_x(
        call.packed_x + call.RowBegin(tile) * call.k + k * rows,
        static_cast<char*>(call.x.raw()) + from * static_cast<int64_t>(SizeOf(call.x.dtype())),
        call.x.dtype(), call.k, rows, std::min(kPackColumns, call.k - k));
  };
  pool_.For(call.n_tiles * slices, pack, call.rows * call.k >= kForkElements);
}

void LinearDriver::RunPanel(const Call& call, int64_t panel, int64_t first_tile, int64_t end_tile,
                            float* scratch) {
  const PackedWeight& w = call.w;
  const int64_t stack = int64_t{w.stack_depth()} * kernels_.max_rows * kPanel;
  const auto block_bytes = kBlockK * kPanel * static_cast<int64_t>(SizeOf(w.dtype()));
  int top = 0;
  const SegmentBlock whole = {0, static_cast<int32_t>(w.segments().size())};
  const bool one_tile = end_tile - first_tile == 1;
  for (const SegmentBlock& block : one_tile ? std::span(&whole, 1) : std::span(w.blocks())) {
    const std::span<const Segment> segments(w.segments().data() + block.begin,
                                            w.segments().data() + block.end);
    int new_top = top;
    for (int64_t tile = first_tile; tile < end_tile; ++tile) {
      new_top = kernels_.tile[static_cast<int>(w.dtype())][call.TileRows(tile)](
          {.x = call.TileX(tile),
           .w = w.panel(panel),
           .segments = segments,
           .stack = scratch + (tile - first_tile) * stack,
           .top = top,
           .ahead = tile == first_tile ? block_bytes : 0});
    }
    top = new_top;
  }
  for (int64_t tile = first_tile; tile < end_tile; ++tile) {
    Finish(call, panel, tile, scratch + (tile - first_tile) * stack);
  }
}

void LinearDriver::Finish(const Call& call, int64_t panel, int64_t tile, const float* stack) {
  const int64_t column = panel * kPanel;
  const int64_t offset = call.RowBegin(tile) * call.n_out + column;
  kernels_.finish({.stack = stack,
                   .rows = call.TileRows(tile),
                   .n_parts = call.w.n_parts(),
                   .bias = call.w.bias(panel),
                   .y = static_cast<char*>(call.y.raw()) +
                        offset * static_cast<int64_t>(SizeOf(call.y.dtype())),
                   .y_type = call.y.dtype(),
                   .row_stride = call.n_out,
                   .part_stride = call.rows * call.n_out,
                   .n_cols = static_cast<int>(std::min<int64_t>(kPanel, call.n_out - column))});
}

}  // namespace trireme::cpu
