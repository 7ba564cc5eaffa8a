// cuBLASLt on the emulated device: the arguments are held to what the library's documentation
// allows, and to the algorithm that was asked for; the product is a plain float32 sum, in stream
// order.
#include <algorithm>
#include <memory>
#include <vector>

#include "cublasLt.h"
#include "kernels/dtype.h"

struct cublasLtContext {};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  uint64_t rows, cols;
  int64_t ld;
};
struct cublasLtMatmulDescOpaque_t {
  cublasOperation_t transa = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace_bytes = 0;
  uint32_t reduction_mask = 7;
  uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace trireme::emulator {
namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;
using Desc = cublasLtMatmulDescOpaque_t;

// What an algorithm remembers of the problem that it was chosen for.
struct Algo {
  uint64_t problem;  // a hash
  uint64_t workspace_bytes;
  uint32_t alignments[4];
};
static_assert(sizeof(Algo) <= sizeof(cublasLtMatmulAlgo_t));

uint64_t Hash(const Desc& desc, const Layout& a, const Layout& b, const Layout& c,
              const Layout& d) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a, by words
  const auto mix = [&](uint64_t word) { hash = (hash ^ word) * 1099511628211u; };
  mix(desc.transa);
  mix(desc.epilogue);
  for (const Layout* layout : {&a, &b, &c, &d}) {
    mix(layout->type);
    mix(layout->rows);
    mix(layout->cols);
    mix(static_cast<uint64_t>(layout->ld));
  }
  return hash;
}

bool SameLayout(const Layout& a, const Layout& b) {
  return a.type == b.type && a.rows == b.rows && a.cols == b.cols && a.ld == b.ld;
}

// Columns begin ld elements apart and do not overlap.
bool IsMatrix(const Layout& layout) {
  return layout.rows > 0 && layout.cols > 0 && layout.ld >= static_cast<int64_t>(layout.rows);
}

cublasStatus_t Supported(const Desc& desc, const Layout& a, const Layout& b, const Layout& c,
                         const Layout& d) {
  for (const Layout* layout : {&a, &b, &c, &d}) {
    if (!IsMatrix(*layout)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool t = desc.transa == CUBLAS_OP_T;
  const uint64_t m = t ? a.cols : a.rows, k = t ? a.rows : a.cols;
  if (b.rows != k || d.rows != m || d.cols != b.cols || !SameLayout(c, d))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (a.type != b.type || (d.type != CUDA_R_32F && d.type != a.type))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS && desc.bias == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

bool IsAligned(const void* pointer, size_t to) {
  return reinterpret_cast<uintptr_t>(pointer) % to == 0;
}

float Load(const void* from, cudaDataType_t type, size_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(from)[i];
  const uint16_t bits = static_cast<const uint16_t*>(from)[i];
  return type == CUDA_R_16BF ? FloatFromBf16(bits) : FloatFromF16(bits);
}
void Store(void* to, cudaDataType_t type, size_t i, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(to)[i] = value;
  } else {
    static_cast<uint16_t*>(to)[i] =
        type == CUDA_R_16BF ? Bf16FromFloat(value) : F16FromFloat(value);
  }
}

// d = alpha op(a) b + beta c (+ bias), all column-major.
struct Product {
  Desc desc;
  Layout a_layout, b_layout, d_layout;
  const void *a, *b, *c;
  void* d;
  float alpha, beta;

  void Run() const {
    const bool t = desc.transa == CUBLAS_OP_T;
    const auto lda = static_cast<size_t>(a_layout.ld), ldb = static_cast<size_t>(b_layout.ld),
               ldd = static_cast<size_t>(d_layout.ld);
    const size_t m = d_layout.rows, n = d_layout.cols, k = b_layout.rows;
    std::vector<float> columns(k * m);  // of op(a)
    for (size_t p = 0; p < k; ++p) {
      for (size_t i = 0; i < m; ++i) {
        columns[p * m + i] = Load(a, a_layout.type, t ? i * lda + p : p * lda + i);
      }
    }
    std::vector<float> sums(m);
    for (size_t j = 0; j < n; ++j) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (size_t p = 0; p < k; ++p) {
        const float factor = Load(b, b_layout.type, j * ldb + p);
        const float* column = &columns[p * m];
        for (size_t i = 0; i < m; ++i) sums[i] += column[i] * factor;
      }
      for (size_t i = 0; i < m; ++i) {
        float value = alpha * sums[i];
        if (beta != 0) value += beta * Load(c, d_layout.type, j * ldd + i);
        if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS) value += Load(desc.bias, d_layout.type, i);
        Store(d, d_layout.type, j * ldd + i, value);
      }
    }
  }
};

template <typename T>
cublasStatus_t Assign(T* to, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace trireme::emulator

using namespace trireme::emulator;

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "not initialized";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "invalid value";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "not supported";
  }
  return "unknown";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = new Layout{type, rows, cols, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t,
                                        cudaDataType_t scale) {
  if (scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
  *desc = new Desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Assign(&desc->transa, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Assign(&desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Assign(&desc->bias, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return Assign(&preference->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return Assign(&preference->reduction_mask, value, bytes);
    default:
      return Assign(&preference->alignments[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                    value, bytes);
  }
}

// One algorithm, which wants a float32 of workspace for every output where that much is allowed,
// and the alignment that was promised.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference,
                                              int n_requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* n_results) {
  *n_results = 0;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (n_requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = Supported(*desc, *a, *b, *c, *d);
      status != CUBLAS_STATUS_SUCCESS)
    return status;
  const Algo algo = {
      .problem = Hash(*desc, *a, *b, *c, *d),
      .workspace_bytes = std::min(d->rows * d->cols * sizeof(float), preference->workspace_bytes),
      .alignments = {preference->alignments[0], preference->alignments[1],
                     preference->alignments[2], preference->alignments[3]}};
  results[0] = {};
  std::memcpy(&results[0].algo, &algo, sizeof algo);
  results[0].workspaceSize = algo.workspace_bytes;
  *n_results = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (alpha == nullptr || beta == nullptr || a == nullptr || b == nullptr || d == nullptr ||
      algo == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = Supported(*desc, *a_layout, *b_layout, *c_layout, *d_layout);
      status != CUBLAS_STATUS_SUCCESS)
    return status;
  Algo chosen;
  std::memcpy(&chosen, algo, sizeof chosen);
  if (chosen.problem != Hash(*desc, *a_layout, *b_layout, *c_layout, *d_layout) ||
      chosen.workspace_bytes > workspace_bytes ||
      (chosen.workspace_bytes > 0 && (workspace == nullptr || !IsAligned(workspace, 256)))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const void* pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (!IsAligned(pointers[i], chosen.alignments[i])) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Product product = {*desc,
                           *a_layout,
                           *b_layout,
                           *d_layout,
                           a,
                           b,
                           c,
                           d,
                           *static_cast<const float*>(alpha),
                           *static_cast<const float*>(beta)};
  const cudaError_t error = LaunchKernel("cublasLtMatmul", {1, 1, 1}, {1, 1, 1}, 0, stream,
                                         [product, workspace, bytes = chosen.workspace_bytes] {
                                           if (bytes > 0) std::memset(workspace, 0xFF, bytes);
                                           product.Run();
                                         });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
