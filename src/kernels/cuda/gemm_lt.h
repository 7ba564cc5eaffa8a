// Linear for many rows, through cuBLASLt: bf16, f16, and f32 without TF32.
//
// cuBLASLt multiplies equal types, accumulates in float32 and writes float32 or the operands' type.
// The other cases, chosen so that nothing but the order of float32 additions is lost against the
// CPU:
//   x f32 , W bf16   x is cut into three bf16 terms that add up to it exactly; three GEMMs (on the
//                    H200 less than half the time of one in float32)
//   x f16 , W bf16   the same with two terms
//   16 bit, W f32    x is widened
//   x bf16, W f16    x fits f16's digits but not its range: rows are divided by a power of two
//   x f32 , W f16    both: three terms of f16
// Where y has 16 bits and the GEMM cannot write it in one rounding, sums go to scratch memory in
// float32 first, rows slice by slice.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>

#include "kernels/cuda/weight.h"

namespace trireme::cuda {

class GemmLt {
 public:
  struct Options {
    size_t workspace_bytes = size_t{32} << 20;  // for cuBLASLt, which NVIDIA advises for Hopper
    size_t scratch_bytes = size_t{64} << 20;    // terms and sums of a slice of rows
  };
  GemmLt(cudaStream_t stream, const Options& options);
  ~GemmLt();
  GemmLt(const GemmLt&) = delete;
  GemmLt& operator=(const GemmLt&) = delete;

  // As Ops::Linear. False where cuBLASLt has no algorithm for it; y is then undefined. The first
  // call for a shape asks cuBLASLt for one; later ones do nothing but enqueue.
  bool Run(Tensor y, Tensor x, const CudaWeight& w);

  size_t n_plans() const { return plans_.size(); }

 private:
  // One matmul: y[m,n] = x[m,k] w[n,k]^T, row-major.
  struct Problem {
    int64_t m, n, k;
    int64_t x_stride, w_stride;
    uint32_t x_alignment, w_alignment, y_alignment;  // of the pointers, bytes
    DType in, out;
    bool bias;
    auto operator<=>(const Problem&) const = default;
  };
  struct Plan;
  struct Mode;

  bool RunSlice(Tensor y, Tensor x, const CudaWeight& w, const Mode& mode, int64_t first,
                int64_t n_rows);
  bool Matmul(Tensor y, const void* x, int64_t x_stride, const CudaWeight& w, int64_t first_column,
              int64_t k, float beta, const void* bias);
  std::unique_ptr<Plan> MakePlan(const Problem& problem, const void* bias);

  cudaStream_t stream_;
  Options options_;
  cublasLtHandle_t handle_ = nullptr;
  Buffer workspace_, scratch_;
  std::map<Problem, std::unique_ptr<Plan>> plans_;
};

}  // namespace trireme::cuda
