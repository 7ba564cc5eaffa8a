// Owned tensors, random contents, and the CPU backends that have to agree to the bit.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"

namespace trireme {

inline std::unique_ptr<Ops> CpuOpsOf(int n_threads, bool avx512) {
  auto ops = MakeCpuOps({.n_threads = n_threads, .cpus = {}, .avx512 = avx512});
  if (!ops.ok()) ADD_FAILURE() << ops.status();
  return std::move(*ops);
}

// One thread, AVX2: what the others are compared with.
inline Ops& PlainOps() {
  static std::unique_ptr<Ops> ops = CpuOpsOf(1, false);
  return *ops;
}

struct NamedOps {
  std::string name;
  std::unique_ptr<Ops> ops;
};
// Every instruction set and thread count (AVX-512 is AVX2 again on a machine without it).
inline std::vector<NamedOps>& AllOps() {
  static auto* all = [] {
    auto* ops = new std::vector<NamedOps>;
    for (bool avx512 : {false, true}) {
      for (int threads : {1, 2, 3}) {
        ops->push_back(
            {CpuTargetName(avx512) + " x" + std::to_string(threads), CpuOpsOf(threads, avx512)});
      }
    }
    return ops;
  }();
  return *all;
}

// A tensor and its memory.
class Array {
 public:
  Array(DType dtype, std::initializer_list<int64_t> shape) {
    size_t bytes = SizeOf(dtype);
    for (int64_t dim : shape) bytes *= static_cast<size_t>(dim);
    memory_ = std::make_shared<std::vector<std::byte>>(bytes);
    tensor_ = Tensor(memory_->data(), dtype, shape);
  }
  const Tensor& operator*() const { return tensor_; }
  const Tensor* operator->() const { return &tensor_; }
  operator Tensor() const { return tensor_; }

  float at(int64_t i) const {
    if (tensor_.dtype() == DType::kF32) return tensor_.f32()[i];
    const uint16_t bits = tensor_.data<uint16_t>()[i];
    return tensor_.dtype() == DType::kBF16 ? FloatFromBf16(bits) : FloatFromF16(bits);
  }
  void set(int64_t i, float value) {
    if (tensor_.dtype() == DType::kF32) {
      tensor_.f32()[i] = value;
    } else {
      tensor_.data<uint16_t>()[i] =
          tensor_.dtype() == DType::kBF16 ? Bf16FromFloat(value) : F16FromFloat(value);
    }
  }
  int64_t size() const { return tensor_.size(); }

 private:
  std::shared_ptr<std::vector<std::byte>> memory_;
  Tensor tensor_;
};

inline Array Copy(const Array& from) {
  Array to = from.operator Tensor().rank() == 1
                 ? Array(from->dtype(), {from->dim(0)})
                 : (from->rank() == 2 ? Array(from->dtype(), {from->dim(0), from->dim(1)})
                                      : Array(from->dtype(), {from->size()}));
  if (!from->empty()) std::memcpy(to->raw(), from->raw(), from->bytes());
  return to;
}

// Normally distributed.
inline Array Random(DType dtype, std::initializer_list<int64_t> shape, uint32_t seed,
                    float scale = 1) {
  Array array(dtype, shape);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  for (int64_t i = 0; i < array.size(); ++i) array.set(i, normal(random));
  return array;
}
inline Array Ints(const std::vector<int32_t>& values) {
  Array array(DType::kI32, {static_cast<int64_t>(values.size())});
  if (!values.empty()) std::memcpy(array->raw(), values.data(), values.size() * 4);
  return array;
}
inline Array Floats(const std::vector<float>& values) {
  Array array(DType::kF32, {static_cast<int64_t>(values.size())});
  if (!values.empty()) std::memcpy(array->raw(), values.data(), values.size() * 4);
  return array;
}

inline bool SameBits(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && (a.empty() || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

// A matrix in memory as a source.
class MemorySource : public MatrixSource {
 public:
  explicit MemorySource(Array matrix) : matrix_(std::move(matrix)) {}
  int64_t rows() const override { return matrix_->dim(0); }
  int64_t cols() const override { return matrix_->dim(1); }
  DType dtype() const override { return matrix_->dtype(); }
  absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
    const Tensor rows = matrix_->Rows(row, row + n_rows);
    if (!rows.empty()) std::memcpy(out, rows.raw(), rows.bytes());
    return absl::OkStatus();
  }

 private:
  Array matrix_;
};

inline std::unique_ptr<Weight> PackOf(Ops& ops, const Array& matrix, WeightSpec spec) {
  auto weight = ops.Pack(MemorySource(matrix), spec);
  if (!weight.ok()) ADD_FAILURE() << weight.status();
  return std::move(*weight);
}

// |a - b| within `units` roundings of the result type, at the magnitude of what was added up.
inline double Tolerance(DType type, double magnitude, double units) {
  const double rounding = type == DType::kF32 ? 0x1p-24 : type == DType::kF16 ? 0x1p-11 : 0x1p-8;
  const double smallest =
      type == DType::kF16 ? 0x1p-25 : 1e-30;  // half of what f16 steps by near 0
  return units * std::max(magnitude * rounding, smallest);
}

}  // namespace trireme
