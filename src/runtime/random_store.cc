#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "runtime/json.h"
#include "runtime/stable_hash.h"
#include "runtime/tensor_store.h"

namespace trireme {
namespace {

// Uniform in ±kHalfWidth has the standard deviation 0.02 (of Hugging Face's initializer_range).
constexpr float kHalfWidth = 0.034641f;

// Finalizer of SplitMix64 (Steele, Lea, Flood 2014).
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;

// A draw of 64 bits serves four columns, 16 bits each. Columns come in blocks of a fixed size, so
// that the compiler turns the conversions into SIMD.
constexpr int64_t kColumnsPerDraw = 4;
constexpr int64_t kBlock = 256;

struct ToF32 {
  using Type = float;
  static float Convert(float value) { return value; }
};
struct ToF16 {
  using Type = uint16_t;
  static uint16_t Convert(float value) { return F16FromFloat(value); }
};
struct ToBf16 {
  using Type = uint16_t;
  static uint16_t Convert(float value) {  // never NaN
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
};

template <typename To>
void FillBlock(uint64_t key, int64_t block, typename To::Type* out) {
  uint64_t draws[kBlock / kColumnsPerDraw];
  uint64_t state = key + static_cast<uint64_t>(block * kBlock / kColumnsPerDraw) * kStep;
  for (uint64_t& draw : draws) {
    draw = Mix(state);
    state += kStep;
  }
  int16_t values[kBlock];
  static_assert(sizeof(values) == sizeof(draws) && std::endian::native == std::endian::little);
  std::memcpy(values, draws, sizeof(values));
  for (int64_t i = 0; i < kBlock; ++i) {
    out[i] = To::Convert(static_cast<float>(values[i]) * (kHalfWidth / 32768));
  }
}

// Columns [cols.begin, cols.end) of the row with this key.
template <typename To>
void FillRow(uint64_t key, Range cols, std::byte* out) {
  for (int64_t column = cols.begin; column < cols.end;) {
    const int64_t block = column / kBlock;
    const int64_t end = std::min(cols.end, (block + 1) * kBlock);
    typename To::Type values[kBlock];
    FillBlock<To>(key, block, values);
    const size_t bytes = static_cast<size_t>(end - column) * sizeof(values[0]);
    std::memcpy(out, values + column % kBlock, bytes);
    out += bytes;
    column = end;
  }
}

class RandomMatrix final : public MatrixSource {
 public:
  RandomMatrix(uint64_t key, DType dtype, Range rows, Range cols)
      : key_(key), dtype_(dtype), rows_(rows), cols_(cols) {}

  int64_t rows() const override { return rows_.size(); }
  int64_t cols() const override { return cols_.size(); }
  DType dtype() const override { return dtype_; }

  absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
    CHECK(row >= 0 && n_rows >= 0 && row + n_rows <= rows()) << row << " + " << n_rows;
    const auto fill = dtype_ == DType::kF32   ? FillRow<ToF32>
                      : dtype_ == DType::kF16 ? FillRow<ToF16>
                                              : FillRow<ToBf16>;
    for (int64_t i = 0; i < n_rows; ++i) {
      fill(RowKey(key_, rows_.begin + row + i), cols_, out);
      out += static_cast<size_t>(cols()) * SizeOf(dtype_);
    }
    return absl::OkStatus();
  }

  static uint64_t RowKey(uint64_t tensor_key, int64_t row) {
    return Mix(tensor_key + static_cast<uint64_t>(row) * kStep);
  }

 private:
  uint64_t key_;
  DType dtype_;
  Range rows_;
  Range cols_;
};

class RandomStore final : public TensorStore {
 public:
  RandomStore(std::vector<TensorSpec> tensors, DType dtype) : dtype_(dtype) {
    CHECK(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16) << Name(dtype);
    for (TensorSpec& spec : tensors) {
      int64_t n = 1;
      for (int64_t dim : spec.shape) n *= dim;
      bytes_ += n * static_cast<int64_t>(SizeOf(dtype));
      shapes_.emplace(std::move(spec.name), std::move(spec.shape));
    }
  }

  absl::Status Expect(const std::vector<TensorSpec>& tensors) const override {
    return CompareTensors(tensors, shapes_);
  }

  absl::StatusOr<std::unique_ptr<MatrixSource>> Matrix(const std::string& name, Range rows,
                                                       Range cols) const override {
    ASSIGN_OR_RETURN(const std::vector<int64_t>* shape, Find(name));
    RETURN_IF_ERROR(CheckRectangle(name, *shape, rows, cols));
    return std::make_unique<RandomMatrix>(Key(name), dtype_, rows, cols);
  }

  // Norms near 1, biases near 0.
  absl::StatusOr<std::vector<float>> Vector(const std::string& name, Range range) const override {
    ASSIGN_OR_RETURN(const std::vector<int64_t>* shape, Find(name));
    RETURN_IF_ERROR(CheckVectorRange(name, *shape, range));
    std::vector<float> values(static_cast<size_t>(range.size()));
    FillRow<ToF32>(RandomMatrix::RowKey(Key(name), 0), range,
                   reinterpret_cast<std::byte*>(values.data()));
    if (!name.ends_with("bias")) {
      for (float& value : values) value += 1;
    }
    return values;
  }

  std::string Fingerprint() const override {
    StableHash hash;
    hash.Add("random");
    hash.Add(Name(dtype_));
    for (const auto& [name, shape] : shapes_) {
      hash.Add(name);
      hash.Add(ShapeText(shape));
    }
    return hash.Hex();
  }

  int64_t bytes() const override { return bytes_; }

 private:
  absl::StatusOr<const std::vector<int64_t>*> Find(const std::string& name) const {
    const auto it = shapes_.find(name);
    if (it == shapes_.end()) return NotFound("no tensor ", Quoted(name));
    return &it->second;
  }

  static uint64_t Key(const std::string& name) {
    StableHash hash;
    hash.Add(name);
    return Mix(hash.low());
  }

  DType dtype_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  int64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<TensorStore> MakeRandomStore(std::vector<TensorSpec> tensors, DType dtype) {
  return std::make_unique<RandomStore>(std::move(tensors), dtype);
}

}  // namespace trireme
