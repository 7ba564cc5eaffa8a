#include "bench/device_probe.h"

#include <algorithm>
#include <chrono>

#include "bench/machine_probe.h"
#include "kernels/cpu/memory.h"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class HostProbe : public DeviceProbe {
 public:
  explicit HostProbe(const CpuProbeOptions& options)
      : options_(options), memory_(cpu::AllocateZeroed(options.bytes)) {
    std::fill_n(memory_.data(), memory_.bytes(), std::byte{1});
  }

  double Bandwidth() override {
    const Clock::time_point start = Clock::now();
    double sum = 0;
    int n = 0;
    do {
      const std::span<const std::byte> bytes(memory_.data() + at_, options_.bytes_at_once);
      sum += ReadBandwidth(bytes, options_.n_threads);
      ++n;
      at_ += options_.bytes_at_once;
      if (at_ + options_.bytes_at_once > memory_.bytes()) at_ = 0;
    } while (SecondsSince(start) < options_.seconds);
    return sum / n;
  }
  double Rate() override { return FmaPeak(options_.n_threads, options_.avx512); }
  std::string bandwidth_name() const override { return "read"; }
  std::string rate_name() const override { return "FMA"; }

  double SecondsPerCall(TimedWork& work) override {
    constexpr double kSeconds = 0.02;
    const Clock::time_point start = Clock::now();
    for (int calls = 1;; ++calls) {
      work.call(calls - 1);
      const double seconds = SecondsSince(start);
      if (seconds >= kSeconds) return seconds / calls;
    }
  }

  void FillRandom(Tensor t) override {
    for (int64_t i = 0; i < t.size(); ++i) {
      const float value = static_cast<float>(i * 7919 % 2001 - 1000) * 1e-3f;
      if (t.dtype() == DType::kF32) {
        t.f32()[i] = value;
      } else {
        t.data<uint16_t>()[i] =
            t.dtype() == DType::kBF16 ? Bf16FromFloat(value) : F16FromFloat(value);
      }
    }
  }

 private:
  const CpuProbeOptions options_;
  Buffer memory_;
  size_t at_ = 0;  // what is read next
};

class GpuProbe : public DeviceProbe {
 public:
  GpuProbe(Ops& ops, bool quick)
      : ops_(ops),
        probe_(MakeCudaProbe(ops,
                             quick ? CudaProbeOptions{size_t{1} << 18, 32} : CudaProbeOptions{})) {
    // Clocks rise under load.
    for (const Clock::time_point start = Clock::now(); SecondsSince(start) < (quick ? 0 : 0.5);) {
      Rate();
    }
  }

  double Bandwidth() override { return probe_->CopyBandwidth(); }
  double Rate() override { return probe_->MatmulRate(); }
  std::string bandwidth_name() const override { return "copy"; }
  std::string rate_name() const override { return "matmul"; }

  // Replayed where it can be, as a decoding step is: launches cost less then.
  double SecondsPerCall(TimedWork& work) override {
    constexpr double kSeconds = 0.002, kMostCalls = 100;
    if (work.n_calls == 0) {
      work.call(0);
      const double seconds = probe_->Seconds([&] { work.call(1); });
      work.n_calls = static_cast<int>(std::clamp(kSeconds / seconds, 1.0, kMostCalls));
      if (work.replays) {
        for (int i = 0; i < 2; ++i) Enqueue(work);  // the second time it is recorded
      }
    }
    return probe_->Seconds([&] { Enqueue(work); }) / work.n_calls;
  }

  void FillRandom(Tensor t) override { probe_->FillRandom(t); }
  CudaProbe* cuda() override { return probe_.get(); }

 private:
  void Enqueue(const TimedWork& work) {
    const auto all = [&] {
      for (int i = 0; i < work.n_calls; ++i) work.call(i);
    };
    work.replays ? ops_.Replay(work.key, all) : all();
  }

  Ops& ops_;
  std::unique_ptr<CudaProbe> probe_;
};

}  // namespace

std::unique_ptr<DeviceProbe> MakeCpuProbe(const CpuProbeOptions& options) {
  return std::make_unique<HostProbe>(options);
}
std::unique_ptr<DeviceProbe> MakeCudaDeviceProbe(Ops& ops, bool quick) {
  return std::make_unique<GpuProbe>(ops, quick);
}

}  // namespace trireme
