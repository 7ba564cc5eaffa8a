#include "kernels/cpu/linear.h"

#include <algorithm>

namespace trireme::cpu {
namespace {

constexpr int64_t kGroupTiles = 16;  // row tiles that share a widened block; their sums stay in L2

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
               .packed_x = x_.Get<float>(rows * w.n_in())};
  PackX(call);
  const int64_t stack = int64_t{w.stack_depth()} * max_rows * kPanel;
  const int64_t per_thread = kGroupTiles * stack + kBlockK * kPanel;
  float* scratch = threads_.Get<float>(pool_.size() * per_thread);
  const int64_t n_groups = (call.n_tiles + kGroupTiles - 1) / kGroupTiles;
  pool_.For(n_groups * w.n_panels(), [&](int64_t item, int thread) {
    const int64_t group = item / w.n_panels();
    RunPanel(call, item % w.n_panels(), call.n_tiles * group / n_groups,
             call.n_tiles * (group + 1) / n_groups, scratch + thread * per_thread);
  });
}

void LinearDriver::PackX(const Call& call) {
  const auto pack = [&](int64_t tile) {
    const int64_t row = call.RowBegin(tile);
    const int tile_rows = call.TileRows(tile);
    kernels_.pack_x(call.packed_x + row * call.k, call.x.Rows(row, row + tile_rows).raw(),
                    call.x.dtype(), call.k, tile_rows, call.k);
  };
  pool_.For(call.n_tiles, [&](int64_t tile, int) { pack(tile); });
}

void LinearDriver::RunPanel(const Call& call, int64_t panel, int64_t first_tile, int64_t end_tile,
                            float* scratch) {
  const PackedWeight& w = call.w;
  const std::byte* columns = w.panel(panel);
  const auto tile_fn = [&](DType type, int64_t tile) {
    return kernels_.tile[static_cast<int>(type)][call.TileRows(tile)];
  };
  if (end_tile - first_tile == 1) {  // the weights are used once: widened in registers
    tile_fn(w.dtype(), first_tile)({.x = call.TileX(first_tile),
                                    .w = columns,
                                    .k = 0,
                                    .segments = w.segments(),
                                    .stack = scratch,
                                    .top = 0});
    return Finish(call, panel, first_tile, scratch);
  }
  const int64_t stack = int64_t{w.stack_depth()} * kernels_.max_rows * kPanel;
  float* widened = scratch + kGroupTiles * stack;
  int top = 0;
  for (const SegmentBlock& block : w.blocks()) {
    const std::span<const Segment> segments(w.segments().data() + block.begin,
                                            w.segments().data() + block.end);
    const int32_t k = segments.front().k;
    const void* block_w = columns + int64_t{k} * kPanel * 4;
    if (w.dtype() != DType::kF32) {
      kernels_.widen(widened, columns, w.dtype(), segments);
      block_w = widened;
    }
    int new_top = top;
    for (int64_t tile = first_tile; tile < end_tile; ++tile) {
      const int tile_rows = call.TileRows(tile);
      new_top = tile_fn(DType::kF32, tile)({.x = call.TileX(tile) + int64_t{k} * tile_rows,
                                            .w = block_w,
                                            .k = k,
                                            .segments = segments,
                                            .stack = scratch + (tile - first_tile) * stack,
                                            .top = top});
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
