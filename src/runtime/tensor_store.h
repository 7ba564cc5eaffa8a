// TensorStore: where a model's named tensors come from: a checkpoint, or a generator for benches.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/weight.h"

namespace trireme {

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
};

// Half-open range of rows or columns.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

class TensorStore {
 public:
  virtual ~TensorStore() = default;

  // Checks that exactly these tensors are there. INVALID_ARGUMENT naming the first few that are
  // missing, extra or of another shape than expected. (Buffers that Hugging Face used to save, such
  // as `*.rotary_emb.inv_freq`, are no extras; `lm_head.weight` beside tied embeddings neither.)
  virtual absl::Status Expect(const std::vector<TensorSpec>& tensors) const = 0;

  // A rectangle of a matrix named in Expect(); nothing is read yet, and only it will be.
  virtual absl::StatusOr<std::unique_ptr<MatrixSource>> Matrix(const std::string& name, Range rows,
                                                               Range cols) const = 0;

  // Part of a vector, as float32; read now.
  virtual absl::StatusOr<std::vector<float>> Vector(const std::string& name, Range range) const = 0;

  // Equal for equal weights: of names, types, shapes and sampled contents.
  virtual std::string Fingerprint() const = 0;

  // Bytes of all the tensors.
  virtual int64_t bytes() const = 0;
};

// A directory in the Hugging Face layout: model.safetensors, or model.safetensors.index.json and
// its shards. Reads by pread, exactly the rectangles asked for.
absl::StatusOr<std::unique_ptr<TensorStore>> OpenCheckpoint(const std::string& directory);

// Small normal random numbers, a function of (name, row, column) alone.
std::unique_ptr<TensorStore> MakeRandomStore(std::vector<TensorSpec> tensors, DType dtype);

// Rows of several sources, one after the other: fused QKV, gate and up. Equal cols and dtypes.
std::unique_ptr<MatrixSource> Concatenate(std::vector<std::unique_ptr<MatrixSource>> sources);

}  // namespace trireme
