#include "kernels/cuda/weight.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "kernels/cpu/kernels.h"
#include "kernels/cuda/fault.h"

namespace trireme::cuda {
namespace {

constexpr int64_t kReadBytes = 1 << 20;  // of one read from the source, about
constexpr char kCopy[] = "a weight's copy to the device";

int64_t RowStride(int64_t n_in, DType dtype) {
  const int64_t pack = CudaWeight::kRowAlignment / static_cast<int64_t>(SizeOf(dtype));
  return (n_in + pack - 1) / pack * pack;
}

}  // namespace

CudaWeight::CudaWeight(int64_t n_out, int64_t n_in, const WeightSpec& spec)
    : n_out_(n_out),
      n_in_(n_in),
      stride_(RowStride(n_in, spec.dtype)),
      dtype_(spec.dtype),
      col_bounds_(spec.col_bounds),
      merges_(spec.merges) {
  if (col_bounds_.empty()) col_bounds_ = {0, n_in};
  if (merges_.empty()) merges_.resize(col_bounds_.size() - 1, 0);
  for (size_t chunk = 0; chunk < merges_.size(); ++chunk) {
    part_chunks_.push_back(static_cast<int>(chunk));
    part_chunks_.resize(part_chunks_.size() - merges_[chunk]);
  }
  part_chunks_.push_back(static_cast<int>(merges_.size()));
  for (const int chunk : part_chunks_) {
    part_bounds_.push_back(col_bounds_[static_cast<size_t>(chunk)]);
  }
  data_ = AllocateDevice(static_cast<size_t>(n_out_ * stride_) * SizeOf(dtype_));
  if (spec.bias.empty()) return;
  bias_ = AllocateDevice(spec.bias.size() * sizeof(float));
  const bool fits = std::all_of(spec.bias.begin(), spec.bias.end(), [&](float b) {
    return dtype_ == DType::kBF16 ? FloatFromBf16(Bf16FromFloat(b)) == b
                                  : FloatFromF16(F16FromFloat(b)) == b;
  });
  if (dtype_ != DType::kF32 && fits) {
    own_bias_ = AllocateDevice(spec.bias.size() * sizeof(uint16_t));
  }
}

WeightLoader::WeightLoader(DeviceWait& wait, const Options& options)
    : wait_(wait),
      staging_bytes_(options.staging_bytes),
      pool_(options.n_threads, {}),
      read_(static_cast<size_t>(options.n_threads)) {
  for (Staging& staging : staging_) {
    staging.memory = AllocatePinned(staging_bytes_);
    Check(cudaEventCreateWithFlags(&staging.copied, cudaEventDisableTiming), "cudaEventCreate");
  }
}

WeightLoader::~WeightLoader() {
  for (Staging& staging : staging_) {
    wait_.Await(staging.copied, kCopy);
    Check(cudaEventDestroy(staging.copied), "cudaEventDestroy");
  }
}

template <typename F>
absl::Status WeightLoader::Stream(std::byte* to, int64_t n_rows, int64_t row_bytes, const F& fill) {
  if (row_bytes == 0) return absl::OkStatus();
  const int64_t rows_at_once = static_cast<int64_t>(staging_bytes_) / row_bytes;
  CHECK_LT(0, rows_at_once) << "a row of " << row_bytes << " bytes";
  for (int64_t row = 0; row < n_rows; row += rows_at_once) {
    const int64_t n = std::min(rows_at_once, n_rows - row);
    Staging& staging = staging_[static_cast<size_t>(next_)];
    next_ = 1 - next_;
    wait_.Await(staging.copied, kCopy);
    RETURN_IF_ERROR(fill(row, n, staging.memory.data()));
    Check(
        cudaMemcpyAsync(to + row * row_bytes, staging.memory.data(),
                        static_cast<size_t>(n * row_bytes), cudaMemcpyHostToDevice, wait_.stream()),
        "cudaMemcpyAsync of a weight");
    Check(cudaEventRecord(staging.copied, wait_.stream()), "cudaEventRecord");
  }
  return absl::OkStatus();
}

absl::Status WeightLoader::FillRows(const MatrixSource& source, const CudaWeight& weight,
                                    int64_t row, int64_t n, std::byte* staged) {
  static const cpu::PackKernels kernels = cpu::PackKernelsFor(false);
  const int64_t cols = weight.n_in();
  const DType from = source.dtype(), to = weight.dtype();
  const int64_t from_bytes = cols * static_cast<int64_t>(SizeOf(from));
  const int64_t to_bytes = cols * static_cast<int64_t>(SizeOf(to));
  const int64_t row_bytes = weight.stride() * static_cast<int64_t>(SizeOf(to));
  const bool as_read = from == to && to_bytes == row_bytes;
  const int64_t rows_per_read = std::max<int64_t>(1, kReadBytes / std::max<int64_t>(1, from_bytes));
  std::mutex mutex;
  absl::Status failed;  // guarded by mutex: the first failure
  pool_.For((n + rows_per_read - 1) / rows_per_read, [&](int64_t item, int thread) {
    const int64_t first = item * rows_per_read, n_rows = std::min(rows_per_read, n - first);
    std::byte* out = staged + first * row_bytes;
    std::vector<std::byte>& read = read_[static_cast<size_t>(thread)];
    if (!as_read) read.resize(static_cast<size_t>(rows_per_read * from_bytes));
    const absl::Status status = source.Read(row + first, n_rows, as_read ? out : read.data());
    if (!status.ok()) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (failed.ok()) failed = status;
      return;
    }
    if (as_read) return;
    for (int64_t i = 0; i < n_rows; ++i, out += row_bytes) {
      const std::byte* in = read.data() + i * from_bytes;
      if (from == to) {
        std::memcpy(out, in, static_cast<size_t>(to_bytes));
      } else {
        kernels.convert(in, from, out, to, cols);
      }
      std::fill(out + to_bytes, out + row_bytes, std::byte{0});
    }
  });
  return failed;
}

absl::StatusOr<std::unique_ptr<CudaWeight>> WeightLoader::Load(const MatrixSource& source,
                                                               const WeightSpec& spec) {
  RETURN_IF_ERROR(CheckSpec(source, spec));
  auto weight = std::make_unique<CudaWeight>(source.rows(), source.cols(), spec);
  const absl::Status status =
      Stream(weight->data_.data(), weight->n_out(),
             weight->stride() * static_cast<int64_t>(SizeOf(weight->dtype())),
             [&](int64_t row, int64_t n, std::byte* staged) {
               return FillRows(source, *weight, row, n, staged);
             });
  if (!status.ok()) {
    // Copies into the memory that is freed now may be under way.
    wait_.Await(kCopy);
    return status;
  }
  const auto n_bias = static_cast<int64_t>(spec.bias.size());
  const float* bias = spec.bias.data();
  RETURN_IF_ERROR(Stream(weight->bias_.data(), n_bias, sizeof(float),
                         [&](int64_t row, int64_t n, std::byte* staged) {
                           std::memcpy(staged, bias + row, static_cast<size_t>(n) * sizeof(float));
                           return absl::OkStatus();
                         }));
  if (weight->own_bias_.data() != nullptr) {
    RETURN_IF_ERROR(Stream(weight->own_bias_.data(), n_bias, sizeof(uint16_t),
                           [&](int64_t row, int64_t n, std::byte* staged) {
                             static const cpu::PackKernels kernels = cpu::PackKernelsFor(false);
                             kernels.convert(bias + row, DType::kF32, staged, weight->dtype(), n);
                             return absl::OkStatus();
                           }));
  }
  return weight;
}

}  // namespace trireme::cuda
