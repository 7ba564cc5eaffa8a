#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "kernels/cpu/memory.h"
#include "kernels/sum_tree.h"

namespace trireme::cpu {
namespace {

absl::Status CheckSpec(const MatrixSource& source, const WeightSpec& spec) {
  const auto& bounds = spec.col_bounds;
  if (spec.dtype == DType::kI32 || source.dtype() == DType::kI32) {
    return InvalidArgument("a weight cannot be i32: use f32, f16 or bf16");
  }
  if (!bounds.empty() &&
      (bounds.size() < 2 || bounds.front() != 0 || bounds.back() != source.cols() ||
       !std::is_sorted(bounds.begin(), bounds.end()))) {
    return InvalidArgument("the chunks of ", source.cols(),
                           " columns have to ascend from 0 to it, not ", Join(bounds, ","));
  }
  const size_t n_chunks = bounds.empty() ? 1 : bounds.size() - 1;
  if (!spec.merges.empty() && spec.merges.size() != n_chunks) {
    return InvalidArgument(spec.merges.size(), " merges for ", n_chunks, " chunks");
  }
  int top = 0;
  for (size_t i = 0; i < n_chunks; ++i) {
    top += 1 - (spec.merges.empty() ? 0 : spec.merges[i]);
    if (top < 1 || top > kMaxSumDepth) {
      return InvalidArgument("after chunk ", i, " there are ", top, " sums, not 1 to ",
                             kMaxSumDepth);
    }
  }
  if (!spec.bias.empty() && (static_cast<int64_t>(spec.bias.size()) != source.rows() || top != 1)) {
    return InvalidArgument("a bias of ", spec.bias.size(), " for ", source.rows(), " rows and ",
                           top, " parts: one value per row, and one part");
  }
  return absl::OkStatus();
}

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

// n elements of one type as another, rounded to nearest even.
void Convert(const std::byte* from, DType from_type, std::byte* to, DType to_type, int64_t n) {
  const size_t step = SizeOf(from_type);
  for (int64_t i = 0; i < n; ++i, from += step) {
    const float value = ToFloat(from, from_type);
    if (to_type == DType::kF32) {
      std::memcpy(to + 4 * i, &value, 4);
    } else {
      const uint16_t bits = to_type == DType::kBF16 ? Bf16FromFloat(value) : F16FromFloat(value);
      std::memcpy(to + 2 * i, &bits, 2);
    }
  }
}

// Rows [rows][k] into one panel; a piece of 16 k at a time, so that the piece stays in cache.
template <typename E>
void PackPanel(const PackedWeight& w, const E* rows, int64_t n_rows, int64_t k, E* panel) {
  constexpr int64_t kPiece = 16;
  for (const Segment& s : w.segments()) {
    for (int64_t k0 = s.k; k0 < s.k + s.n; k0 += kPiece) {
      const int64_t k1 = std::min<int64_t>(s.k + s.n, k0 + kPiece);
      for (int64_t r = 0; r < n_rows; ++r) {
        for (int64_t i = k0; i < k1; ++i) panel[w.Offset(s, i, r)] = rows[r * k + i];
      }
    }
  }
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

absl::StatusOr<std::unique_ptr<Weight>> Pack(const MatrixSource& source, const WeightSpec& spec,
                                             ThreadPool& pool) {
  RETURN_IF_ERROR(CheckSpec(source, spec));
  const int64_t n_out = source.rows(), k = source.cols();
  auto weight = std::make_unique<PackedWeight>(n_out, k, spec);
  const DType from = source.dtype(), to = spec.dtype;
  std::mutex mutex;
  absl::Status failed;  // guarded by mutex: the first failure
  std::vector<std::vector<std::byte>> read(static_cast<size_t>(pool.size()));
  std::vector<std::vector<std::byte>> converted(read.size());
  pool.For(weight->n_panels(), [&](int64_t panel, int thread) {
    const int64_t row = panel * kPanel;
    const int64_t rows = std::min<int64_t>(kPanel, n_out - row);
    auto& staged = read[static_cast<size_t>(thread)];
    staged.resize(static_cast<size_t>(kPanel * k) * SizeOf(from));
    if (absl::Status status = source.Read(row, rows, staged.data()); !status.ok()) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (failed.ok()) failed = status;
      return;
    }
    const std::byte* elements = staged.data();
    if (from != to) {
      auto& rounded = converted[static_cast<size_t>(thread)];
      rounded.resize(static_cast<size_t>(kPanel * k) * SizeOf(to));
      Convert(staged.data(), from, rounded.data(), to, rows * k);
      elements = rounded.data();
    }
    if (SizeOf(to) == 4) {
      PackPanel(*weight, reinterpret_cast<const uint32_t*>(elements), rows, k,
                reinterpret_cast<uint32_t*>(weight->panel(panel)));
    } else {
      PackPanel(*weight, reinterpret_cast<const uint16_t*>(elements), rows, k,
                reinterpret_cast<uint16_t*>(weight->panel(panel)));
    }
  });
  if (!failed.ok()) return failed;
  return std::unique_ptr<Weight>(std::move(weight));
}

}  // namespace trireme::cpu
