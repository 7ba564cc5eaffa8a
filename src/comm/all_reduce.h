// What the communicators agree on: who finishes which rows, and in which of two forms an AllReduce
// moves its parts (communicator.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "comm/communicator.h"
#include "comm/world.h"

namespace trireme {

struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// The rows of [0, T) that a rank finishes in the sliced form.
inline RowRange RowSlice(int64_t T, int rank, int size) {
  return {rank * T / size, (rank + 1) * T / size};
}

inline int TotalParts(const GroupSum& sum) {
  return std::accumulate(sum.n_parts.begin(), sum.n_parts.end(), 0);
}

// The gathered form reads all P parts, P*T*H*4 bytes per rank; the sliced form reads a size-th of
// them and the finished y, in one exchange more. So: sliced where it saves more bytes than move in
// the time of an exchange, `exchange_bytes`. The same answer on every rank.
inline bool UseSlices(Tensor y, int total_parts, int size, int64_t exchange_bytes) {
  const int64_t part_bytes = total_parts * y.size() * static_cast<int64_t>(sizeof(float));
  const int64_t saved = part_bytes - part_bytes / size - static_cast<int64_t>(y.bytes());
  return y.dim(0) >= size && saved > exchange_bytes;
}

// Bytes of one rank's rows of a gathered tensor or of a sliced sum: T >= size rows in slices of at
// most 2 T/size.
inline size_t TensorBytes(const WorldOptions& options, int size) {
  return 2 * std::max(options.max_parts_bytes, options.max_tensor_bytes) /
         static_cast<size_t>(size);
}

// Checks what every verb takes for granted.
inline void CheckReduce(Tensor y, Tensor parts, const GroupSum& sum, int rank, int size,
                        int64_t T) {
  CHECK_EQ(static_cast<int>(sum.n_parts.size()), size);
  CHECK_EQ(static_cast<int>(sum.merges.size()), TotalParts(sum));
  CHECK_EQ(parts.rank(), 3);
  CHECK_EQ(parts.dim(0), sum.n_parts[static_cast<size_t>(rank)]);
  CHECK_EQ(parts.dim(1), T);
  CHECK_EQ(parts.dim(2), y.dim(1));
  CHECK(parts.dtype() == DType::kF32);
}

}  // namespace trireme
