#include "runtime/tensor_store.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "runtime/json.h"

namespace trireme {
namespace {

constexpr size_t kMaxNamed = 3;

// "2 tensors missing: "a", "b""; nothing for none.
void Report(std::vector<std::string>* problems, std::string_view what,
            const std::vector<std::string>& names) {
  if (names.empty()) return;
  const std::vector<std::string> first(names.begin(),
                                       names.begin() + std::min(names.size(), kMaxNamed));
  problems->push_back(StrCat(names.size(), names.size() == 1 ? " tensor " : " tensors ", what, ": ",
                             Join(first, ", "), names.size() > kMaxNamed ? ", …" : ""));
}

// Tensors that change nothing: see Expect().
bool IsLeftover(const std::string& name) {
  return name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
}

absl::Status CheckRange(const std::string& name, std::string_view what, Range range, int64_t size) {
  if (range.begin >= 0 && range.begin <= range.end && range.end <= size) return absl::OkStatus();
  return InvalidArgument("tensor ", Quoted(name), " has ", size, " ", what, ", asked for ",
                         range.begin, " to ", range.end);
}

class ConcatenatedSource final : public MatrixSource {
 public:
  explicit ConcatenatedSource(std::vector<std::unique_ptr<MatrixSource>> sources)
      : sources_(std::move(sources)), dtype_(sources_[0]->dtype()) {
    for (const auto& source : sources_) {
      CHECK_EQ(source->cols(), sources_[0]->cols());
      rows_ += source->rows();
      if (source->dtype() != dtype_) dtype_ = DType::kF32;
    }
  }

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return sources_[0]->cols(); }
  DType dtype() const override { return dtype_; }

  absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
    CHECK(row >= 0 && n_rows >= 0 && row + n_rows <= rows_) << row << " + " << n_rows;
    int64_t first = 0;  // of this source
    for (const auto& source : sources_) {
      const int64_t begin = std::max(row, first);
      const int64_t end = std::min(row + n_rows, first + source->rows());
      if (begin < end) {
        RETURN_IF_ERROR(ReadPart(*source, begin - first, end - begin, out));
        out += static_cast<size_t>((end - begin) * cols()) * SizeOf(dtype_);
      }
      first += source->rows();
    }
    return absl::OkStatus();
  }

 private:
  absl::Status ReadPart(const MatrixSource& source, int64_t row, int64_t n_rows,
                        std::byte* out) const {
    if (source.dtype() == dtype_) return source.Read(row, n_rows, out);
    const int64_t n = n_rows * cols();
    std::vector<std::byte> narrow(static_cast<size_t>(n) * SizeOf(source.dtype()));
    RETURN_IF_ERROR(source.Read(row, n_rows, narrow.data()));
    WidenToF32(narrow.data(), source.dtype(), n, reinterpret_cast<float*>(out));
    return absl::OkStatus();
  }

  std::vector<std::unique_ptr<MatrixSource>> sources_;
  DType dtype_;
  int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<MatrixSource> Concatenate(std::vector<std::unique_ptr<MatrixSource>> sources) {
  CHECK(!sources.empty());
  if (sources.size() == 1) return std::move(sources[0]);
  return std::make_unique<ConcatenatedSource>(std::move(sources));
}

absl::Status CompareTensors(const std::vector<TensorSpec>& expected,
                            const std::map<std::string, std::vector<int64_t>>& found) {
  std::vector<std::string> missing;
  std::vector<std::string> reshaped;
  std::map<std::string_view, bool> named;
  for (const TensorSpec& spec : expected) {
    named[spec.name] = true;
    const auto it = found.find(spec.name);
    if (it == found.end()) {
      missing.push_back(Quoted(spec.name));
    } else if (it->second != spec.shape) {
      reshaped.push_back(StrCat(Quoted(spec.name), " is ", ShapeText(it->second), ", expected ",
                                ShapeText(spec.shape)));
    }
  }
  std::vector<std::string> extra;
  for (const auto& [name, shape] : found) {
    if (!named.contains(name) && !IsLeftover(name)) extra.push_back(Quoted(name));
  }
  std::vector<std::string> problems;
  Report(&problems, "missing", missing);
  Report(&problems, "that the model does not have", extra);
  Report(&problems, "of another shape", reshaped);
  if (problems.empty()) return absl::OkStatus();
  return InvalidArgument("the weights do not fit config.json: ", Join(problems, "; "));
}

absl::Status CheckRectangle(const std::string& name, const std::vector<int64_t>& shape, Range rows,
                            Range cols) {
  if (shape.size() != 2) {
    return InvalidArgument("tensor ", Quoted(name), " is ", ShapeText(shape),
                           ", expected a matrix");
  }
  RETURN_IF_ERROR(CheckRange(name, "rows", rows, shape[0]));
  return CheckRange(name, "columns", cols, shape[1]);
}

absl::Status CheckVectorRange(const std::string& name, const std::vector<int64_t>& shape,
                              Range range) {
  if (shape.size() != 1) {
    return InvalidArgument("tensor ", Quoted(name), " is ", ShapeText(shape),
                           ", expected a vector");
  }
  return CheckRange(name, "elements", range, shape[0]);
}

void WidenToF32(const std::byte* from, DType dtype, int64_t n, float* to) {
  if (n == 0) return;  // memcpy takes no null pointers
  if (dtype == DType::kF32) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  CHECK(dtype == DType::kF16 || dtype == DType::kBF16) << Name(dtype);
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, sizeof(bits));
    to[i] = dtype == DType::kF16 ? FloatFromF16(bits) : FloatFromBf16(bits);
  }
}

}  // namespace trireme
