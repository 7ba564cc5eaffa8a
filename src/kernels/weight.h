// Weight: a matrix as a device packs it. Nothing but that device's Ops looks inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "kernels/dtype.h"

namespace trireme {

class Weight {
 public:
  virtual ~Weight() = default;
  virtual int64_t n_out() const = 0;  // rows: output features, or vocabulary rows
  virtual int64_t n_in() const = 0;   // columns: input features
  virtual int n_parts() const = 0;    // float32 partial sums that Linear leaves
  virtual size_t bytes() const = 0;   // as packed
  virtual DType dtype() const = 0;
};

// Where a matrix comes from: a slice of a checkpoint, a concatenation of such, a generator.
class MatrixSource {
 public:
  virtual ~MatrixSource() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual DType dtype() const = 0;
  // Writes rows [row, row + n_rows), all columns, densely to `out`. Thread-safe; each row is asked
  // for once.
  virtual absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const = 0;
};

struct WeightSpec {
  DType dtype = DType::kF32;  // as stored; rounded to nearest even if narrower than the source
  // Cuts of the columns into chunks, 0 = first < … < last = cols(), each with its own partial sum
  // (empty chunks are allowed: equal neighbours). {} means one chunk.
  std::vector<int64_t> col_bounds;
  std::vector<uint8_t> merges;  // one per chunk: see sum_tree.h; {} means {0}
  std::vector<float> bias;      // [rows] or empty; only where n_parts == 1
};

// InvalidArgument where a source cannot be packed so.
absl::Status CheckSpec(const MatrixSource& source, const WeightSpec& spec);

}  // namespace trireme
