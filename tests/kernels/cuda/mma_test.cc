// The wrappers of mma.sync, ldmatrix and cp.async, alone. The maps stated here are CUTLASS's
// (cute/atom/mma_traits_sm80.hpp, copy_traits_sm75.hpp: strides into a column-major matrix) and the
// PTX ISA's (figures of "Matrix fragments for mma.m16n8k16" and of ldmatrix).
#include "kernels/cuda/mma.cuh"

#include "tests/kernels/cuda/device_array.h"

namespace trireme::cuda {
namespace {

// Where in a column-major matrix lane `lane` has value v: CUTLASS's
// Layout<Shape<Shape<4,8>,Shape<2,2,2>>, Stride<Stride<t,g>,Stride<v0,v1,v2>>>.
struct Map {
  int t, g, v[3];
  int at(int lane, int value) const {
    return lane % 4 * t + lane / 4 * g + value % 2 * v[0] + value / 2 % 2 * v[1] + value / 4 * v[2];
  }
};
constexpr Map kA = {32, 1, {16, 8, 128}};  // index m + 16 k
constexpr Map kB = {16, 1, {8, 64, 0}};    // index n + 8 k
constexpr Map kD = {32, 1, {16, 8, 0}};    // index m + 16 n

template <typename T>
__global__ void MmaKernel(float* d, const uint16_t* a, const uint16_t* b) {
  const auto lane = threadIdx.x;
  uint32_t a_frag[4], b_frag[2];
  float sums[4];
  for (unsigned i = 0; i < 4; ++i)
    a_frag[i] = a[lane * 8 + 2 * i] | static_cast<uint32_t>(a[lane * 8 + 2 * i + 1]) << 16;
  for (unsigned i = 0; i < 2; ++i)
    b_frag[i] = b[lane * 4 + 2 * i] | static_cast<uint32_t>(b[lane * 4 + 2 * i + 1]) << 16;
  for (unsigned i = 0; i < 4; ++i) sums[i] = d[lane * 4 + i];
  Mma<T>(sums, a_frag, b_frag[0], b_frag[1]);
  for (unsigned i = 0; i < 4; ++i) d[lane * 4 + i] = sums[i];
}

template <typename T>
void TestMma(DType type) {
  std::vector<int> a(16 * 16), b(16 * 8),
      c(16 * 8);  // column-major, small integers: sums are exact
  std::mt19937 random(1);
  for (int& x : a) x = static_cast<int>(random() % 17) - 8;
  for (int& x : b) x = static_cast<int>(random() % 17) - 8;
  for (int& x : c) x = static_cast<int>(random() % 2001) - 1000;
  Array a_lanes(type, {32 * 8}), b_lanes(type, {32 * 4}), d_lanes(DType::kF32, {32 * 4});
  for (int lane = 0; lane < 32; ++lane) {
    for (int v = 0; v < 8; ++v) a_lanes.set(lane * 8 + v, static_cast<float>(a[kA.at(lane, v)]));
    for (int v = 0; v < 4; ++v) b_lanes.set(lane * 4 + v, static_cast<float>(b[kB.at(lane, v)]));
    for (int v = 0; v < 4; ++v) d_lanes.set(lane * 4 + v, static_cast<float>(c[kD.at(lane, v)]));
  }
  const DeviceArray a_device = Upload(a_lanes), b_device = Upload(b_lanes), d = Upload(d_lanes);
  Launch<MmaKernel<T>>({dim3{1, 1, 1}, dim3{32, 1, 1}, 0, TestStream()}, d->f32(),
                       static_cast<const uint16_t*>(a_device->raw()),
                       static_cast<const uint16_t*>(b_device->raw()));
  const Array result = Download(d);
  for (int lane = 0; lane < 32; ++lane) {
    for (int v = 0; v < 4; ++v) {
      const int m = kD.at(lane, v) % 16, n = kD.at(lane, v) / 16;
      int expected = c[kD.at(lane, v)];
      for (int k = 0; k < 16; ++k) expected += a[m + 16 * k] * b[n + 8 * k];
      EXPECT_EQ(result.at(lane * 4 + v), static_cast<float>(expected)) << m << "," << n;
    }
  }
}

TEST(Mma, MultipliesBf16) { TestMma<Bf16>(DType::kBF16); }
TEST(Mma, MultipliesF16) { TestMma<F16>(DType::kF16); }

// Row i of matrix j holds 100 j + 10 i + column.
constexpr int kRowStride = 24;  // elements

template <int N, bool kTranspose>
__global__ void LoadKernel(uint32_t* out) {
  auto* shared = Shared<uint16_t>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int c = 0; c < 8; ++c) {
    shared[lane * kRowStride + c] = static_cast<uint16_t>(100 * (lane / 8) + 10 * (lane % 8) + c);
  }
  __syncwarp();
  uint32_t r[N];
  LoadMatrices<kTranspose>(r, shared + lane % (8 * N) * kRowStride);
  for (int i = 0; i < N; ++i) out[lane * N + i] = r[i];
}

template <int N, bool kTranspose>
void TestLoad() {
  const DeviceArray out(DType::kI32, {32 * N});
  Launch<LoadKernel<N, kTranspose>>(
      {dim3{1, 1, 1}, dim3{32, 1, 1}, 32 * kRowStride * sizeof(uint16_t), TestStream()},
      static_cast<uint32_t*>(out->raw()));
  const Array result = Download(out);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < N; ++i) {
      const auto r = static_cast<uint32_t>(result->i32()[lane * N + i]);
      for (int h = 0; h < 2; ++h) {
        const int row = kTranspose ? lane % 4 * 2 + h : lane / 4;
        const int column = kTranspose ? lane / 4 : lane % 4 * 2 + h;
        EXPECT_EQ(static_cast<int>(r >> (16 * h) & 0xffffu), 100 * i + 10 * row + column)
            << "lane " << lane << " register " << i << " half " << h;
      }
    }
  }
}

TEST(LoadMatrices, FourAndTwoPlainAndTransposed) {
  TestLoad<4, false>();
  TestLoad<4, true>();
  TestLoad<2, false>();
  TestLoad<2, true>();
}

// Each of 64 threads copies 16 bytes, zeros where its number is divisible by 3, in two groups.
__global__ void CopyKernel(uint4* out, const uint4* in) {
  auto* shared = Shared<uint4>();
  const int i = static_cast<int>(threadIdx.x);
  CopyAsync(shared + i, in + i, i % 3 != 0);
  CommitCopies();
  CopyAsync(shared + 64 + i, in + 64 + i, i % 3 != 1);
  CommitCopies();
  AwaitCopies<1>();
  __syncthreads();
  out[i] = shared[63 - i];
  AwaitCopies<0>();
  __syncthreads();
  out[64 + i] = shared[64 + 63 - i];
}

TEST(CopyAsync, CopiesOrZeroes) {
  Array in(DType::kI32, {128 * 4});
  for (int64_t i = 0; i < in.size(); ++i) in->i32()[i] = static_cast<int32_t>(i + 1);
  const DeviceArray from = Upload(in), to(DType::kI32, {128 * 4});
  Launch<CopyKernel>({dim3{1, 1, 1}, dim3{64, 1, 1}, 128 * 16, TestStream()},
                     static_cast<uint4*>(to->raw()), static_cast<const uint4*>(from->raw()));
  const Array out = Download(to);
  for (int group = 0; group < 2; ++group) {
    for (int i = 0; i < 64; ++i) {
      for (int word = 0; word < 4; ++word) {
        const int source = 63 - i;
        const int expected = source % 3 == group ? 0 : (group * 64 + source) * 4 + word + 1;
        EXPECT_EQ(out->i32()[(group * 64 + i) * 4 + word], expected) << group << " " << i;
      }
    }
  }
}

template <typename T>
__global__ void PackKernel(uint32_t* out, const float* in) {
  const auto i = threadIdx.x;
  out[i] = PackPair<T>(in[2 * i], in[2 * i + 1]);
}
__global__ void ExpKernel(float* x) { x[threadIdx.x] = Exp2(x[threadIdx.x]); }

template <typename T>
void TestPack(uint16_t (*round)(float)) {
  const Array in =
      Floats({1, -2, 1 + 0x1p-8f, 1 + 3 * 0x1p-11f, HUGE_VALF, 0x1p-130f, 70000.0f, 0x1.8p-24f});
  const DeviceArray from = Upload(in), to(DType::kI32, {4});
  Launch<PackKernel<T>>({dim3{1, 1, 1}, dim3{4, 1, 1}, 0, TestStream()},
                        static_cast<uint32_t*>(to->raw()), static_cast<const float*>(from->raw()));
  const Array out = Download(to);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(static_cast<uint32_t>(out->i32()[i / 2]) >> (i % 2 * 16) & 0xffffu, round(in.at(i)));
  }
}
TEST(PackPair, RoundsToNearestEvenLowHalfFirst) {
  TestPack<Bf16>(Bf16FromFloat);
  TestPack<F16>(F16FromFloat);
}

TEST(Exp2, WithinTwoUnits) {
  const std::vector<float> points = {0, -1, 10, -0.3f, -17.77f, -126, -130, -HUGE_VALF};
  const DeviceArray x = Upload(Floats(points));
  Launch<ExpKernel>({dim3{1, 1, 1}, dim3{8, 1, 1}, 0, TestStream()}, x->f32());
  const Array y = Download(x);
  for (int64_t i = 0; i < y.size(); ++i) {
    const double exact = std::exp2(static_cast<double>(points[static_cast<size_t>(i)]));
    EXPECT_NEAR(y.at(i), exact < 0x1p-126 ? 0 : exact, exact * 0x1p-22)
        << points[static_cast<size_t>(i)];
  }
}

}  // namespace
}  // namespace trireme::cuda
