#include "kernels/cuda/gemm_lt.h"

#include <algorithm>
#include <bit>

#include "kernels/cuda/fault.h"
#include "kernels/cuda/kernels.h"

namespace trireme::cuda {
namespace {

void Check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    Fault(std::string("cuBLASLt: ") + call + ": " + cublasLtGetStatusString(status));
  }
}

cudaDataType_t DataType(DType type) {
  switch (type) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kI32:
      break;
  }
  CHECK(false) << "a matrix of integers";
}

// No kernel of cuBLASLt asks for more than 16 bytes.
uint32_t Alignment(const void* pointer) {
  return std::min(1u << std::countr_zero(reinterpret_cast<uintptr_t>(pointer) | 16u), 16u);
}

template <typename T>
void Set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  Check(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value),
        "MatmulDescSetAttribute");
}

}  // namespace

// What cuBLASLt needs for a problem, in its own order: matrices are column-major, so a row-major
// [r,c] is its [c,r]; it computes y^T [n,m] = (w^T)^T [n,k] x^T [k,m].
struct GemmLt::Plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulAlgo_t algo = {};
  bool found = false;

  Plan() = default;
  Plan(const Plan&) = delete;
  ~Plan() {
    for (cublasLtMatrixLayout_t layout : {w, x, y}) {
      Check(cublasLtMatrixLayoutDestroy(layout), "MatrixLayoutDestroy");
    }
    Check(cublasLtMatmulDescDestroy(desc), "MatmulDescDestroy");
  }
};

// How a call reaches the CPU's result with GEMMs of equal types: see the header.
struct GemmLt::Mode {
  int n_terms = 0;      // of x in w's type; 0: x has it
  bool scaled = false;  // the terms' rows are divided by a power of two
  bool sums = false;    // float32 sums in scratch, then y

  Mode(Tensor y, Tensor x, const CudaWeight& w) {
    if (x.dtype() != w.dtype()) {
      const bool f16_to_bf16 = x.dtype() == DType::kF16 && w.dtype() == DType::kBF16;
      n_terms = x.dtype() == DType::kF32 ? 3 : f16_to_bf16 ? 2 : 1;
      scaled = w.dtype() == DType::kF16;
    }
    sums = y.dtype() != DType::kF32 && (w.dtype() != y.dtype() || n_terms > 1 || scaled ||
                                        (w.bias() != nullptr && w.own_bias() == nullptr));
  }
  // Whether a pass over the sums ends it: then the bias comes there too.
  bool finish() const { return scaled || sums; }

  // Of scratch memory, for a number of rows. Every piece begins on 256 bytes.
  static size_t Aligned(int64_t bytes) { return (static_cast<size_t>(bytes) + 255) / 256 * 256; }
  size_t TermBytes(const CudaWeight& w, int64_t rows) const {
    return Aligned(n_terms * rows * w.stride() * static_cast<int64_t>(SizeOf(w.dtype())));
  }
  size_t ScaleBytes(int64_t rows) const { return Aligned(scaled ? rows * 4 : 0); }
  size_t SumBytes(const CudaWeight& w, int64_t rows) const {
    return Aligned(sums ? rows * w.n_out() * 4 : 0);
  }
  size_t Bytes(const CudaWeight& w, int64_t rows) const {
    return TermBytes(w, rows) + ScaleBytes(rows) + SumBytes(w, rows);
  }
};

GemmLt::GemmLt(cudaStream_t stream, const Options& options)
    : stream_(stream),
      options_(options),
      workspace_(AllocateDevice(options.workspace_bytes)),
      scratch_(AllocateDevice(options.scratch_bytes)) {
  Check(cublasLtCreate(&handle_), "Create");
}

GemmLt::~GemmLt() {
  plans_.clear();
  Check(cublasLtDestroy(handle_), "Destroy");
}

bool GemmLt::Run(Tensor y, Tensor x, const CudaWeight& w) {
  if (y.empty()) return true;
  const Mode mode(y, x, w);
  const int64_t rows = x.dim(0);
  int64_t slice = rows;
  while (slice > 1 && mode.Bytes(w, slice) > scratch_.bytes()) slice = (slice + 1) / 2;
  CHECK_LE(mode.Bytes(w, slice), scratch_.bytes()) << "scratch memory for one row";
  for (int64_t row = 0; row < rows; row += slice) {
    if (!RunSlice(y, x, w, mode, row, std::min(slice, rows - row))) return false;
  }
  return true;
}

bool GemmLt::RunSlice(Tensor y, Tensor x, const CudaWeight& w, const Mode& mode, int64_t first,
                      int64_t n_rows) {
  const int64_t n_out = w.n_out();
  const Tensor x_rows = x.Rows(first, first + n_rows);
  std::byte* scratch = scratch_.data();
  const Tensor terms(scratch, w.dtype(), {mode.n_terms, n_rows, w.stride()});
  auto* scales = reinterpret_cast<float*>(scratch + mode.TermBytes(w, n_rows));
  std::byte* sums = scratch + mode.TermBytes(w, n_rows) + mode.ScaleBytes(n_rows);
  if (mode.n_terms > 0) CutIntoTerms(terms, scales, x_rows, stream_);

  for (int part = 0; part < w.n_parts(); ++part) {
    const int64_t column = w.part_bounds()[static_cast<size_t>(part)];
    const int64_t k = w.part_bounds()[static_cast<size_t>(part) + 1] - column;
    const int64_t offset = (part * x.dim(0) + first) * n_out;
    const Tensor y_rows(
        static_cast<std::byte*>(y.raw()) + offset * static_cast<int64_t>(SizeOf(y.dtype())),
        y.dtype(), {n_rows, n_out});
    const Tensor to = mode.sums ? Tensor(sums, DType::kF32, {n_rows, n_out}) : y_rows;
    const void* bias = mode.finish()               ? nullptr
                       : to.dtype() != DType::kF32 ? w.own_bias()
                                                   : static_cast<const void*>(w.bias());
    if (mode.n_terms == 0) {
      if (!Matmul(to, x_rows.raw(), w.n_in(), w, column, k, 0, bias)) return false;
    }
    // The smallest terms first; the bias with the last.
    for (int term = mode.n_terms - 1; term >= 0; --term) {
      if (!Matmul(to,
                  static_cast<const std::byte*>(terms.raw()) +
                      term * n_rows * w.stride() * static_cast<int64_t>(SizeOf(w.dtype())),
                  w.stride(), w, column, k, term == mode.n_terms - 1 ? 0.0f : 1.0f,
                  term == 0 ? bias : nullptr)) {
        return false;
      }
    }
    if (mode.finish()) {
      FinishSums(y_rows, to.f32(), mode.scaled ? scales : nullptr, w.bias(), stream_);
    }
  }
  return true;
}

bool GemmLt::Matmul(Tensor y, const void* x, int64_t x_stride, const CudaWeight& w,
                    int64_t first_column, int64_t k, float beta, const void* bias) {
  const auto element = static_cast<int64_t>(SizeOf(w.dtype()));
  x = static_cast<const std::byte*>(x) + first_column * element;
  const void* weight = static_cast<const std::byte*>(w.rows().raw()) + first_column * element;
  const Problem problem = {.m = y.dim(0),
                           .n = w.n_out(),
                           .k = k,
                           .x_stride = x_stride,
                           .w_stride = w.stride(),
                           .x_alignment = Alignment(x),
                           .w_alignment = Alignment(weight),
                           .y_alignment = Alignment(y.raw()),
                           .in = w.dtype(),
                           .out = y.dtype(),
                           .bias = bias != nullptr};
  std::unique_ptr<Plan>& plan = plans_[problem];
  if (plan == nullptr) plan = MakePlan(problem, bias);
  if (!plan->found) return false;
  if (bias != nullptr) Set(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  const float alpha = 1;
  Check(cublasLtMatmul(handle_, plan->desc, &alpha, weight, plan->w, x, plan->x, &beta, y.raw(),
                       plan->y, y.raw(), plan->y, &plan->algo, workspace_.data(),
                       workspace_.bytes(), stream_),
        "Matmul");
  return true;
}

std::unique_ptr<GemmLt::Plan> GemmLt::MakePlan(const Problem& p, const void* bias) {
  auto plan = std::make_unique<Plan>();
  Check(cublasLtMatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "MatmulDescCreate");
  Set(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (p.bias) {
    Set(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    Set(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  const auto layout = [](cublasLtMatrixLayout_t* to, DType type, int64_t rows, int64_t cols,
                         int64_t stride) {
    Check(cublasLtMatrixLayoutCreate(to, DataType(type), static_cast<uint64_t>(rows),
                                     static_cast<uint64_t>(cols), stride),
          "MatrixLayoutCreate");
  };
  layout(&plan->w, p.in, p.k, p.n, p.w_stride);
  layout(&plan->x, p.in, p.k, p.m, p.x_stride);
  layout(&plan->y, p.out, p.n, p.m, p.n);

  cublasLtMatmulPreference_t preference = nullptr;
  Check(cublasLtMatmulPreferenceCreate(&preference), "MatmulPreferenceCreate");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    Check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
          "MatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_.bytes()});
  // Where K is split, partial sums stay float32.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.w_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.x_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.y_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.y_alignment);
  cublasLtMatmulHeuristicResult_t result = {};
  int n_results = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, plan->desc, plan->w, plan->x, plan->y, plan->y, preference, 1, &result, &n_results);
  Check(cublasLtMatmulPreferenceDestroy(preference), "MatmulPreferenceDestroy");
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) Check(status, "MatmulAlgoGetHeuristic");
  plan->found =
      status == CUBLAS_STATUS_SUCCESS && n_results > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  plan->algo = result.algo;
  return plan;
}

}  // namespace trireme::cuda
