// Tensor: a non-owning view of a dense row-major array on one device.
//
// Letters used for shapes everywhere:
//   T tokens of the step     H hidden size           V vocabulary rows here
//   N query heads here       K KV heads here         D head size
//   F FFN columns here       S sequences of the step B KV block size, tokens
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/check.h"
#include "kernels/dtype.h"

namespace trireme {

class Tensor {
 public:
  static constexpr int kMaxRank = 4;

  Tensor() = default;
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape)
      : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
    CHECK_LE(rank_, kMaxRank);
    int i = 0;
    for (int64_t dim : shape) shape_[i++] = dim;
  }

  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t dim(int i) const {
    CHECK_LT(i, rank_);
    return shape_[i];
  }
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= shape_[i];
    return n;
  }
  size_t bytes() const { return static_cast<size_t>(size()) * SizeOf(dtype_); }
  bool empty() const { return data_ == nullptr || size() == 0; }

  void* raw() const { return data_; }
  template <typename U>
  U* data() const {
    CHECK_EQ(sizeof(U), SizeOf(dtype_));
    return static_cast<U*>(data_);
  }
  float* f32() const {
    CHECK(dtype_ == DType::kF32);
    return static_cast<float*>(data_);
  }
  int32_t* i32() const {
    CHECK(dtype_ == DType::kI32);
    return static_cast<int32_t*>(data_);
  }

  // Rows [begin, end) of the first dimension.
  Tensor Rows(int64_t begin, int64_t end) const {
    CHECK(0 <= begin && begin <= end && end <= dim(0)) << begin << ".." << end << " of " << dim(0);
    Tensor rows = *this;
    rows.shape_[0] = end - begin;
    const int64_t row = dim(0) == 0 ? 0 : size() / dim(0);
    rows.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin * row) * SizeOf(dtype_);
    return rows;
  }

  // A tensor of the same type and shape elsewhere.
  Tensor At(void* data) const {
    Tensor other = *this;
    other.data_ = data;
    return other;
  }

  // The same elements in another shape.
  Tensor As(std::initializer_list<int64_t> shape) const {
    Tensor view(data_, dtype_, shape);
    CHECK_EQ(view.size(), size());
    return view;
  }

 private:
  void* data_ = nullptr;
  std::array<int64_t, kMaxRank> shape_ = {};
  DType dtype_ = DType::kF32;
  int rank_ = 0;
};

}  // namespace trireme
