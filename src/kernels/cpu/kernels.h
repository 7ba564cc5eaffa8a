// The SIMD kernels as plain functions: one table per instruction set. Each works on the rows or
// panels it is given, on the calling thread; cpu_ops.cc cuts the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/dtype.h"
#include "kernels/ops.h"

namespace trireme::cpu {

// ---- linear ----

inline constexpr int kPanel = 32;  // output columns packed together
inline constexpr int kMaxTileRows = 16;

// A piece of one chunk of K: columns [k, k + n) of x, from k slot `slot` of the packed panel.
struct Segment {
  int32_t k = 0;
  int32_t n = 0;
  int32_t slot = 0;
  bool first = false;  // of its chunk: the sum starts from 0
  bool last = false;   // of its chunk: then `merges` additions of the two topmost sums
  uint8_t merges = 0;
};

// One row tile: R rows of x times one panel, over some segments.
struct TileArgs {
  const float* x;  // [K][R]
  const void* w;   // the panel
  std::span<const Segment> segments;
  float* stack;   // [depth][R][kPanel] sums
  int top;        // sums on the stack; an unfinished chunk's counts
  int64_t ahead;  // bytes from what is read of w to what is prefetched
};

struct FinishArgs {
  const float* stack;  // [n_parts][R][kPanel]
  int rows;            // R
  int n_parts;
  const float* bias;  // [kPanel] or null
  void* y;            // the tile's first element; parts are part_stride elements apart
  DType y_type;
  int64_t row_stride;
  int64_t part_stride;
  int n_cols;  // <= kPanel
};

struct LinearKernels {
  int max_rows;  // of a tile
  // Returns the new top. By weight type (f32, f16, bf16) and rows.
  int (*tile[3][kMaxTileRows + 1])(const TileArgs& args);
  // x rows [rows] at row_stride elements, columns [0, k), as float32 [k][rows].
  void (*pack_x)(float* out, const void* x, DType x_type, int64_t row_stride, int rows, int64_t k);
  void (*finish)(const FinishArgs& args);
};

// ---- packing ----

struct PackKernels {
  // n elements of one type as another, rounded to nearest even.
  void (*convert)(const void* from, DType from_type, void* to, DType to_type, int64_t n);
  // Columns [0, n) of kPanel rows, row_bytes apart, as a panel holds them (packed_weight.h).
  void (*pack_segment)(void* out, DType type, const std::byte* rows, int64_t row_bytes, int64_t n);
};

// ---- rows: arrays [rows][h] ----

struct RowKernels {
  void (*sum_parts)(void* y, DType type, std::span<const float* const> parts,
                    std::span<const uint8_t> merges, const float* bias, int64_t begin, int64_t end,
                    int64_t h);
  void (*rms_norm)(void* y, const void* x, DType type, const float* w, float eps, int64_t rows,
                   int64_t h);
  //   b: [h] or null
  void (*layer_norm)(void* y, const void* x, DType type, const float* w, const float* b, float eps,
                     int64_t rows, int64_t h);
  void (*add)(void* r, const void* x, DType type, int64_t n);
  void (*dropout)(void* x, DType type, const DropoutRow& row, int32_t site, int64_t h);
  void (*gated_act)(void* y, const void* x, DType type, Activation act, int64_t rows, int64_t f);
  void (*act)(void* y, const void* x, DType type, Activation act, int64_t n);
};

// ---- attention ----

struct RopeArgs {
  void* q;           // [T,N*D]
  const void* qkv;   // [T,(N+2K)*D]
  DType type;        // of q and qkv
  const float* cos;  // [T,D/2]
  const float* sin;
  const int32_t* slots;  // [T]
  void* k_pages;
  void* v_pages;
  DType kv_type;
  int64_t n, kv, d;  // N, K, D
};

// Query rows of one sequence against one KV head: `n_rows` (row, head) pairs.
inline constexpr int kMaxQueryRows = 16;
struct AttentionTile {
  const void* q[kMaxQueryRows];    // [D] each
  void* y[kMaxQueryRows];          // [D] each
  int32_t visible[kMaxQueryRows];  // tokens up to the row's own, ascending
  int64_t window;                  // of those, the last so many are seen
  int n_rows;
  const int32_t* blocks;  // of the sequence
  DType type;             // of q and y
  const void* k_pages;    // at this KV head of block 0
  const void* v_pages;
  int64_t block_stride;  // elements from block to block
  DType kv_type;
  int64_t d;
  float scale;
  float* scratch;  // AttentionScratch(d) floats, 64-byte aligned
};
inline int64_t AttentionScratch(int64_t d) {
  const int64_t padded = (d + 15) / 16 * 16;
  // queries [D][rows], outputs [rows][D], weights [rows][B], values [B][D]
  return kMaxQueryRows * (2 * padded + kKvBlockSize) + kKvBlockSize * padded;
}

struct AttentionKernels {
  void (*rope_store_kv)(const RopeArgs& args, int64_t begin, int64_t end);
  void (*attend)(const AttentionTile& tile);
};

// ---- vocabulary ----

struct VocabKernels {
  // last.id -1: nothing is cut.
  Scored (*sample)(const float* logits, int64_t v, const Draw& draw, Scored last, int64_t first_id);
  // See Filter.
  void (*masses)(const float* logits, int64_t n, float max, float inverse_temperature,
                 uint64_t* masses);
  // How many leading logits, in blocks of 16, have none above `threshold`: what a scan may skip.
  int64_t (*skip_below)(const float* logits, int64_t n, float threshold);
};

struct Kernels {
  LinearKernels linear;
  PackKernels pack;
  RowKernels rows;
  AttentionKernels attention;
  VocabKernels vocab;
};

// By instruction set; the machine has to have it.
LinearKernels LinearKernelsFor(bool avx512);
PackKernels PackKernelsFor(bool avx512);
RowKernels RowKernelsFor(bool avx512);
AttentionKernels AttentionKernelsFor(bool avx512);
VocabKernels VocabKernelsFor(bool avx512);

}  // namespace trireme::cpu
