#include "kernels/cuda/probe.h"

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/cuda/device_wait.h"
#include "kernels/cuda/fault.h"
#include "kernels/cuda/gemm_lt.h"
#include "kernels/cuda/kernels.h"

namespace trireme::cuda {
namespace {

constexpr int kRepeats = 5;               // of what is measured, after one that is not
constexpr int kHeadStart = 6;             // copies: some milliseconds
constexpr size_t kRandomBytes = 1 << 22;  // made on the host; more are copies of them

class Event {
 public:
  Event() { Check(cudaEventCreateWithFlags(&event_, 0), "cudaEventCreateWithFlags"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

size_t CopyBytes(size_t wanted) {
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return std::min(wanted, free / 8);
}

class Probe : public CudaProbe {
 public:
  Probe(Ops& ops, const CudaProbeOptions& options)
      : ops_(ops),
        wait_(DeviceWaitOf(ops)),
        gemm_(wait_.stream(), GemmLt::Options{}),
        from_(AllocateDevice(CopyBytes(options.copy_bytes))),
        to_(AllocateDevice(from_.bytes())),
        n_(options.matmul_size),
        w_(n_, n_, {.dtype = DType::kBF16}),
        matrices_(AllocateDevice(static_cast<size_t>(2 * n_ * n_) * sizeof(uint16_t))),
        x_(Tensor(matrices_.data(), DType::kBF16, {2 * n_, n_}).Rows(0, n_)),
        y_(Tensor(matrices_.data(), DType::kBF16, {2 * n_, n_}).Rows(n_, 2 * n_)) {
    FillRandom(Tensor(from_.data(), DType::kBF16, {static_cast<int64_t>(from_.bytes() / 2)}));
    FillRandom(x_);
    FillRandom(w_.rows());
  }

  double CopyBandwidth() override {
    Copy();
    const double seconds = Between([&] {
      for (int i = 0; i < kRepeats; ++i) Copy();
    });
    return 2.0 * kRepeats * static_cast<double>(from_.bytes()) / seconds;
  }

  double MatmulRate() override {
    const auto multiply = [&] { CHECK(gemm_.Run(y_, x_, w_)) << "no algorithm of cuBLASLt"; };
    multiply();
    const double seconds = Between([&] {
      for (int i = 0; i < kRepeats; ++i) multiply();
    });
    const auto n = static_cast<double>(n_);
    return kRepeats * 2.0 * n * n * n / seconds;
  }

  double Seconds(const std::function<void()>& work) override {
    for (int i = 0; i < kHeadStart; ++i) Copy();
    return Between(work);
  }

  void FillRandom(Tensor t) override {
    if (t.empty()) return;
    const size_t first = std::min(t.bytes(), kRandomBytes);
    if (t.dtype() == DType::kF32) {
      ops_.Upload(t.As({t.size()}).Rows(0, static_cast<int64_t>(first / 4)),
                  Random<float>().data());
    } else {
      ops_.Upload(t.As({t.size()}).Rows(0, static_cast<int64_t>(first / 2)),
                  Random<uint16_t>().data());
    }
    auto* const data = static_cast<std::byte*>(t.raw());
    for (size_t done = first; done < t.bytes(); done *= 2) {
      Check(cudaMemcpyAsync(data + done, data, std::min(done, t.bytes() - done),
                            cudaMemcpyDeviceToDevice, wait_.stream()),
            "cudaMemcpyAsync");
    }
  }

  void Gemv(Tensor y, Tensor x, const Weight& w) override {
    cuda::Gemv(y, x, static_cast<const CudaWeight&>(w), wait_.stream());
  }
  bool Gemm(Tensor y, Tensor x, const Weight& w) override {
    return gemm_.Run(y, x, static_cast<const CudaWeight&>(w));
  }

 private:
  void Copy() {
    Check(cudaMemcpyAsync(to_.data(), from_.data(), from_.bytes(), cudaMemcpyDeviceToDevice,
                          wait_.stream()),
          "cudaMemcpyAsync");
  }

  double Between(const std::function<void()>& work) {
    Check(cudaEventRecord(begin_.get(), wait_.stream()), "cudaEventRecord");
    work();
    Check(cudaEventRecord(end_.get(), wait_.stream()), "cudaEventRecord");
    wait_.Await(end_.get(), "what is measured");
    float ms = 0;
    Check(cudaEventElapsedTime(&ms, begin_.get(), end_.get()), "cudaEventElapsedTime");
    return static_cast<double>(ms) * 1e-3;
  }

  // kRandomBytes of them.
  template <typename T>
  static const std::vector<T>& Random() {
    static const std::vector<T> values = [] {
      std::mt19937 random(1);
      std::vector<T> made(kRandomBytes / sizeof(T));
      for (T& value : made) {
        const float x = (static_cast<float>(random() >> 8) + 0.5f) * 0x1p-23f - 1;
        if constexpr (sizeof(T) == 4) {
          value = x;
        } else {
          value = Bf16FromFloat(x);
        }
      }
      return made;
    }();
    return values;
  }

  Ops& ops_;
  DeviceWait& wait_;
  GemmLt gemm_;
  Event begin_, end_;
  Buffer from_, to_;
  int64_t n_;
  CudaWeight w_;
  Buffer matrices_;
  Tensor x_, y_;
};

}  // namespace
}  // namespace trireme::cuda

namespace trireme {

std::unique_ptr<CudaProbe> MakeCudaProbe(Ops& ops, const CudaProbeOptions& options) {
  return std::make_unique<cuda::Probe>(ops, options);
}

}  // namespace trireme
