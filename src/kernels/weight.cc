#include "kernels/weight.h"

#include <algorithm>

#include "kernels/sum_tree.h"

namespace trireme {

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

}  // namespace trireme
