#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "kernels/cpu/memory.h"

namespace trireme::cpu {
namespace {

float ToFloat(const std::byte* p, DType type) {
  if (type == DType::kF32) {
    float value;
    std::memcpy(&value, p, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return type == DType::kBF16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

}  // namespace

PackedWeight::PackedWeight(int64_t n_out, int64_t n_in, const WeightSpec& spec)
    : n_out_(n_out), n_in_(n_in), dtype_(spec.dtype) {
  std::vector<int64_t> bounds = spec.col_bounds;
  if (bounds.empty()) bounds = {0, n_in};
  int32_t slot = 0;
  for (size_t chunk = 0; chunk + 1 < bounds.size(); ++chunk) {
    const auto merges = spec.merges.empty() ? uint8_t{0} : spec.merges[chunk];
    int64_t k = bounds[chunk];
    do {
      const int64_t n = std::min<int64_t>(bounds[chunk + 1] - k, kBlockK);
      segments_.push_back({.k = static_cast<int32_t>(k),
                           .n = static_cast<int32_t>(n),
                           .slot = slot,
                           .first = k == bounds[chunk],
                           .last = k + n == bounds[chunk + 1],
                           .merges = merges});
      k += n;
      slot += static_cast<int32_t>(dtype_ == DType::kBF16 ? (n + 1) / 2 * 2 : n);
    } while (k < bounds[chunk + 1]);
    stack_depth_ = std::max(stack_depth_, ++n_parts_);
    n_parts_ -= merges;
  }
  int64_t block_k = 0;
  for (size_t i = 0; i < segments_.size(); ++i) {
    if (blocks_.empty() || block_k + segments_[i].n > kBlockK) {
      blocks_.push_back({static_cast<int32_t>(i), static_cast<int32_t>(i)});
      block_k = 0;
    }
    block_k += segments_[i].n;
    blocks_.back().end = static_cast<int32_t>(i + 1);
  }
  panel_bytes_ = int64_t{slot} * kPanel * static_cast<int64_t>(SizeOf(dtype_));
  data_ = AllocateZeroed(static_cast<size_t>(n_panels() * panel_bytes_));
  if (!spec.bias.empty()) {
    bias_ = spec.bias;
    bias_.resize(static_cast<size_t>(n_panels() * kPanel), 0.0f);
  }
}

int64_t PackedWeight::Offset(const Segment& segment, int64_t k, int64_t column) const {
  const int64_t slot = segment.slot + (k - segment.k);
  if (dtype_ != DType::kBF16) return slot * kPanel + column;
  return (slot / 2 * kPanel + column) * 2 + slot % 2;
}

void PackedWeight::UnpackRow(int64_t row, float* out) const {
  const std::byte* from = panel(row / kPanel);
  const auto size = static_cast<int64_t>(SizeOf(dtype_));
  for (const Segment& s : segments_) {
    for (int64_t k = s.k; k < s.k + s.n; ++k) {
      out[k] = ToFloat(from + Offset(s, k, row % kPanel) * size, dtype_);
    }
  }
}

absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const MatrixSource& source,
                                                   const WeightSpec& spec,
                                                   const PackKernels& kernels, ThreadPool& pool) {
  RETURN_IF_ERROR(CheckSpec(source, spec));
  const int64_t n_out = source.rows(), k = source.cols();
  auto weight = std::make_unique<PackedWeight>(n_out, k, spec);
  const DType from = source.dtype(), to = spec.dtype;
  const auto from_size = static_cast<int64_t>(SizeOf(from)),
             to_size = static_cast<int64_t>(SizeOf(to));
  // Per thread: a panel's rows as read, and as converted.
  const int64_t read_bytes = kPanel * k * from_size;
  const int64_t converted_bytes = from == to ? 0 : kPanel * k * to_size;
  const Buffer staging =
      AllocateZeroed(static_cast<size_t>(pool.size() * (read_bytes + converted_bytes)));
  std::mutex mutex;
  absl::Status failed;  // guarded by mutex: the first failure
  pool.For(weight->n_panels(), [&](int64_t panel, int thread) {
    std::byte* read = staging.data() + thread * (read_bytes + converted_bytes);
    std::byte* rows = from == to ? read : read + read_bytes;
    const int64_t first = panel * kPanel, n_rows = std::min<int64_t>(kPanel, n_out - first);
    if (absl::Status status = source.Read(first, n_rows, read); !status.ok()) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (failed.ok()) failed = status;
      return;
    }
    if (from != to) kernels.convert(read, from, rows, to, n_rows * k);
    const int64_t row_bytes = k * to_size;
    std::fill(rows + n_rows * row_bytes, rows + kPanel * row_bytes, std::byte{0});
    for (const Segment& s : weight->segments()) {
      kernels.pack_segment(weight->panel(panel) + int64_t{s.slot} * kPanel * to_size, to,
                           rows + s.k * to_size, row_bytes, s.n);
    }
  });
  if (!failed.ok()) return failed;
  return weight;
}

}  // namespace trireme::cpu
