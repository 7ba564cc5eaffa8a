// TensorStore: where a model's named tensors come from: a checkpoint, or a generator for benches.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
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

// Thread-safe.
class TensorStore {
 public:
  virtual ~TensorStore() = default;

  // Checks that exactly these tensors are there. INVALID_ARGUMENT naming the first few that are
  // missing, extra or of another shape than expected; UNIMPLEMENTED naming one whose dtype is
  // neither f32, f16 nor bf16. (Buffers that Hugging Face used to save, `*.rotary_emb.inv_freq`,
  // are no extras; `lm_head.weight` beside tied embeddings neither.)
  virtual absl::Status Expect(const std::vector<TensorSpec>& tensors) const = 0;

  // A rectangle of a matrix; nothing is read yet, and only it will be. The source may outlive the
  // store. NOT_FOUND, INVALID_ARGUMENT (not a matrix, or a rectangle outside it) or UNIMPLEMENTED
  // (dtype), naming the tensor; Read() fails with DATA_LOSS where the file ends too early.
  virtual absl::StatusOr<std::unique_ptr<MatrixSource>> Matrix(const std::string& name, Range rows,
                                                               Range cols) const = 0;

  // Part of a vector, as float32; read now. Errors as Matrix() and its Read().
  virtual absl::StatusOr<std::vector<float>> Vector(const std::string& name, Range range) const = 0;

  // Equal for equal weights, in one file or many: of names, types, shapes and sampled contents
  // (up to 64 pieces of 1 KB, so that it costs next to nothing to read). 32 hexadecimal digits.
  virtual std::string Fingerprint() const = 0;

  // Bytes of all the tensors, as stored.
  virtual int64_t bytes() const = 0;
};

// A directory in the Hugging Face layout: model.safetensors, or model.safetensors.index.json and
// its shards. Headers and the fingerprint's pieces are read now; weights later, by pread, exactly
// the rectangles asked for. One line names the file and tensor that is wrong: NOT_FOUND,
// PERMISSION_DENIED, INVALID_ARGUMENT, FAILED_PRECONDITION (weights in another format) or
// DATA_LOSS.
absl::StatusOr<std::unique_ptr<TensorStore>> OpenCheckpoint(const std::string& directory);

// Random numbers that cost less than reading them: uniform, of standard deviation 0.02 (norms near
// 1), a function of (name, row, column) alone.   dtype: f32, f16 or bf16
std::unique_ptr<TensorStore> MakeRandomStore(std::vector<TensorSpec> tensors, DType dtype);

// Rows of several sources, one after the other: fused QKV, gate and up. Equal cols. Sources of
// different dtypes are widened to f32, which holds each of them.
std::unique_ptr<MatrixSource> Concatenate(std::vector<std::unique_ptr<MatrixSource>> sources);

// For stores: the part of Expect() about names and shapes.
absl::Status CompareTensors(const std::vector<TensorSpec>& expected,
                            const std::map<std::string, std::vector<int64_t>>& found);

// For stores: INVALID_ARGUMENT unless a tensor of this shape has the rectangle, or the range.
absl::Status CheckRectangle(const std::string& name, const std::vector<int64_t>& shape, Range rows,
                            Range cols);
absl::Status CheckVectorRange(const std::string& name, const std::vector<int64_t>& shape,
                              Range range);

// n elements of dtype f32, f16 or bf16, as float32.
void WidenToF32(const std::byte* from, DType dtype, int64_t n, float* to);

}  // namespace trireme
