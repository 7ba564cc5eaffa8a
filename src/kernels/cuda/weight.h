// How the device holds a matrix: row-major [n_out, n_in] in the stored type, each row beginning on
// 16 bytes, so that kernels load 16 bytes at a time and cuBLASLt may use any algorithm.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <memory>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/device_wait.h"
#include "kernels/cuda/memory.h"
#include "kernels/weight.h"

namespace trireme::cuda {

class CudaWeight : public Weight {
 public:
  static constexpr int64_t kRowAlignment = 16;  // bytes

  CudaWeight(int64_t n_out, int64_t n_in, const WeightSpec& spec);

  int64_t n_out() const override { return n_out_; }
  int64_t n_in() const override { return n_in_; }
  int n_parts() const override { return static_cast<int>(part_chunks_.size()) - 1; }
  size_t bytes() const override { return data_.bytes(); }
  DType dtype() const override { return dtype_; }

  // [n_out, stride]; columns past n_in are 0.
  Tensor rows() const { return Tensor(data_.data(), dtype_, {n_out_, stride_}); }
  int64_t stride() const { return stride_; }

  // The chunks of the columns and the order in which their sums are added: see sum_tree.h.
  const std::vector<int64_t>& col_bounds() const { return col_bounds_; }
  const std::vector<uint8_t>& merges() const { return merges_; }
  // The chunks of each part, [n_parts + 1], and the columns that they cover together.
  const std::vector<int>& part_chunks() const { return part_chunks_; }
  const std::vector<int64_t>& part_bounds() const { return part_bounds_; }

  // [n_out] on the device, or null.
  const float* bias() const { return reinterpret_cast<const float*>(bias_.data()); }
  // The same in the weight's type; null where that would round it.
  const void* own_bias() const { return dtype_ == DType::kF32 ? bias_.data() : own_bias_.data(); }

 private:
  friend class WeightLoader;

  int64_t n_out_, n_in_, stride_;
  DType dtype_;
  std::vector<int64_t> col_bounds_, part_bounds_;
  std::vector<uint8_t> merges_;
  std::vector<int> part_chunks_;
  Buffer data_, bias_, own_bias_;
};

// Brings matrices into device memory through two pinned buffers: while one is copied, the other is
// filled, by `n_threads` threads.
class WeightLoader {
 public:
  struct Options {
    int n_threads = 4;
    size_t staging_bytes = size_t{32} << 20;  // of each buffer; no row may be longer
  };
  // What it loads is there for later work on the stream of `wait`.
  WeightLoader(DeviceWait& wait, const Options& options);
  ~WeightLoader();

  // Errors are CheckSpec's and the source's.
  absl::StatusOr<std::unique_ptr<CudaWeight>> Load(const MatrixSource& source,
                                                   const WeightSpec& spec);

 private:
  struct Staging {
    Buffer memory;
    cudaEvent_t copied = nullptr;  // the memory may be written again
  };

  // fill(row, n, staged) writes rows [row, row + n) of row_bytes each; they go to to + row *
  // row_bytes.
  template <typename F>
  absl::Status Stream(std::byte* to, int64_t n_rows, int64_t row_bytes, const F& fill);
  absl::Status FillRows(const MatrixSource& source, const CudaWeight& weight, int64_t row,
                        int64_t n, std::byte* staged);

  DeviceWait& wait_;
  size_t staging_bytes_;
  std::array<Staging, 2> staging_;
  int next_ = 0;
  cpu::ThreadPool pool_;
  std::vector<std::vector<std::byte>> read_;  // per thread: rows as the source gives them
};

}  // namespace trireme::cuda
