// The emulated cuBLASLt refuses what the library refuses.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <vector>

namespace trireme::emulator {
namespace {

struct Matrix {
  cudaDataType_t type;
  uint64_t rows, cols;
  int64_t ld;
};

// y [3,4] f32 = w [3,8]^T x [8,4], changed by a test before it asks and runs.
class CublasLtTest : public testing::Test {
 protected:
  CublasLtTest() {
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    cublasLtCreate(&handle_);
    cudaMalloc(&memory_, 4096);
    cublasLtMatmulDescCreate(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtMatmulDescSetAttribute(desc_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                   sizeof transposed);
  }
  ~CublasLtTest() override {
    cudaStreamDestroy(stream_);
    cublasLtDestroy(handle_);
    for (cublasLtMatrixLayout_t layout : made_) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(desc_);
    cudaFree(memory_);
  }

  void MakeLayouts() {
    const Matrix* from[] = {&a_, &b_, &d_};
    cublasLtMatrixLayout_t* to[] = {&a_layout_, &b_layout_, &d_layout_};
    for (int i = 0; i < 3; ++i) {
      cublasLtMatrixLayoutCreate(to[i], from[i]->type, from[i]->rows, from[i]->cols, from[i]->ld);
      made_.push_back(*to[i]);
    }
  }
  cublasStatus_t Ask() {
    MakeLayouts();
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulPreferenceCreate(&preference);
    const uint32_t alignment = 16;
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment, sizeof alignment);
    }
    const uint64_t workspace = 64;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace, sizeof workspace);
    int n = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, desc_, a_layout_, b_layout_, d_layout_, d_layout_, preference, 1, &result_, &n);
    EXPECT_EQ(n, status == CUBLAS_STATUS_SUCCESS ? 1 : 0);
    cublasLtMatmulPreferenceDestroy(preference);
    return status;
  }
  cublasStatus_t Multiply(size_t a_offset = 0, size_t workspace_bytes = 64) {
    const float alpha = 1, beta = 0;
    auto* d = static_cast<char*>(memory_) + 1024;
    return cublasLtMatmul(handle_, desc_, &alpha, static_cast<char*>(memory_) + a_offset, a_layout_,
                          memory_, b_layout_, &beta, d, d_layout_, d, d_layout_, &result_.algo,
                          static_cast<char*>(memory_) + 2048, workspace_bytes, stream_);
  }

  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t desc_ = nullptr;
  void* memory_ = nullptr;
  Matrix a_ = {CUDA_R_16BF, 8, 3, 8}, b_ = {CUDA_R_16BF, 8, 4, 8}, d_ = {CUDA_R_32F, 3, 4, 3};
  cublasLtMatrixLayout_t a_layout_ = nullptr, b_layout_ = nullptr, d_layout_ = nullptr;
  std::vector<cublasLtMatrixLayout_t> made_;
  cublasLtMatmulHeuristicResult_t result_ = {};
};

TEST_F(CublasLtTest, TakesWhatIsRight) {
  EXPECT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Multiply(), CUBLAS_STATUS_SUCCESS);
}
TEST_F(CublasLtTest, RefusesUnequalTypes) {
  b_.type = CUDA_R_32F;
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED);
}
TEST_F(CublasLtTest, RefusesHalfToBf16) {
  a_.type = b_.type = CUDA_R_16F;
  d_.type = CUDA_R_16BF;
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED);
}
TEST_F(CublasLtTest, RefusesShapesThatDoNotMeet) {
  b_.rows = 7;
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE);
}
TEST_F(CublasLtTest, RefusesColumnsThatOverlap) {
  a_.ld = 7;
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE);
}
TEST_F(CublasLtTest, RefusesNoColumns) {
  a_.rows = b_.rows = 0;
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE);
}
TEST_F(CublasLtTest, RefusesABiasThatIsNowhere) {
  const cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
  cublasLtMatmulDescSetAttribute(desc_, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE);
}
TEST_F(CublasLtTest, RefusesLessAlignmentThanPromised) {
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Multiply(8), CUBLAS_STATUS_INVALID_VALUE);
}
TEST_F(CublasLtTest, RefusesTooLittleWorkspace) {
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Multiply(0, 8), CUBLAS_STATUS_INVALID_VALUE);
}
TEST_F(CublasLtTest, RefusesAnAlgorithmOfAnotherShape) {
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  b_.cols = d_.cols = 2;
  MakeLayouts();
  EXPECT_EQ(Multiply(), CUBLAS_STATUS_INVALID_VALUE);
}
TEST_F(CublasLtTest, RefusesAnAttributeOfTheWrongSize) {
  const uint64_t value = 1;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(desc_, CUBLASLT_MATMUL_DESC_TRANSA, &value, 8),
            CUBLAS_STATUS_INVALID_VALUE);
}

}  // namespace
}  // namespace trireme::emulator
