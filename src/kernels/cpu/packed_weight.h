// How the CPU packs a matrix: panels of 32 output columns, so that a SIMD lane is an output and K
// runs sequentially.
//
//   f32, f16   [n_out/32][K][32]
//   bf16       [n_out/32][K/2][32][2]: the two k of a pair share a 32-bit lane, so that a shift and
//              a mask widen them. Each chunk of K begins a new pair.
// Columns past n_out are 0.
#pragma once

#include <memory>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/weight.h"

namespace trireme::cpu {

// Segments that are widened and used together: [begin, end) in PackedWeight::segments.
struct SegmentBlock {
  int32_t begin = 0;
  int32_t end = 0;
};
inline constexpr int32_t kBlockK = 512;  // k of one block, at most

class PackedWeight : public Weight {
 public:
  PackedWeight(int64_t n_out, int64_t n_in, const WeightSpec& spec);

  int64_t n_out() const override { return n_out_; }
  int64_t n_in() const override { return n_in_; }
  int n_parts() const override { return n_parts_; }
  size_t bytes() const override { return data_.bytes(); }
  DType dtype() const override { return dtype_; }

  int64_t n_panels() const { return (n_out_ + kPanel - 1) / kPanel; }
  std::byte* panel(int64_t i) const { return data_.data() + i * panel_bytes_; }
  const float* bias(int64_t panel) const {
    return bias_.empty() ? nullptr : bias_.data() + panel * kPanel;
  }
  const std::vector<Segment>& segments() const { return segments_; }
  const std::vector<SegmentBlock>& blocks() const { return blocks_; }
  int stack_depth() const { return stack_depth_; }

  // Row `row` as float32 [n_in].
  void UnpackRow(int64_t row, float* out) const;

 private:
  // Where column k of output `column` of its panel lies in the panel, in elements.
  int64_t Offset(const Segment& segment, int64_t k, int64_t column) const;

  int64_t n_out_;
  int64_t n_in_;
  DType dtype_;
  int n_parts_ = 0;
  int stack_depth_ = 0;
  int64_t panel_bytes_ = 0;
  std::vector<Segment> segments_;
  std::vector<SegmentBlock> blocks_;
  std::vector<float> bias_;  // [n_panels * 32]
  Buffer data_;
};

absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const MatrixSource& source,
                                                   const WeightSpec& spec,
                                                   const PackKernels& kernels, ThreadPool& pool);

}  // namespace trireme::cpu
