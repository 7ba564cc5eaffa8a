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

// Four columns share one draw of 64 bits, 16 each.
constexpr int64_t kColumns = 4;

float Value(uint64_t draw, int lane) {
  const auto signed_bits = static_cast<int16_t>(static_cast<uint16_t>(draw >> (16 * lane)));
  return static_cast<float>(signed_bits) * (kHalfWidth / 32768);
}

struct ToF32 {
  using Type = float;
  static float Convert(float value) { return value; }
};
struct ToF16 {
  using Type = uint16_t;
  static uint16_t Convert(float value) { return F16FromFloat(value); }
};
struct ToBf16 {  // values are never NaN
  using Type = uint16_t;
  static uint16_t Convert(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
};

// Columns [cols.begin, cols.end) of the row with this key.
template <typename To>
void FillRow(uint64_t key, Range cols, std::byte* out) {
  using Type = typename To::Type;
  int64_t column = cols.begin;
  const auto put = [&](uint64_t draw, int first, int last) {
    Type values[kColumns];
    for (int lane = first; lane < last; ++lane) {
      values[lane - first] = To::Convert(Value(draw, lane));
    }
    std::memcpy(out, values, sizeof(Type) * (last - first));
    out += sizeof(Type) * (last - first);
    column += last - first;
  };
  const auto draw = [&] { return Mix(key + static_cast<uint64_t>(column / kColumns) * kStep); };
  if (column % kColumns != 0 && column < cols.end) {
    const int first = static_cast<int>(column % kColumns);
    put(draw(), first, static_cast<int>(std::min(kColumns, first + cols.size())));
  }
  while (column + kColumns <= cols.end) put(draw(), 0, kColumns);
  if (column < cols.end) put(draw(), 0, static_cast<int>(cols.end - column));
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
