#include "bench/machine_probe.h"

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/machine_probe.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#if TRIREME_SIMD
#include <array>

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

constexpr int kChains = 12;  // enough for the latency of a multiply-add times its ports

// Returns something that depends on all of it.
float MultiplyAdd(int64_t rounds, float value) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V a = hn::Set(d, value), b = hn::Set(d, value * 0.5f);
  V acc[kChains];
  TRIREME_UNROLL
  for (int i = 0; i < kChains; ++i) acc[i] = hn::Set(d, static_cast<float>(i));
  for (int64_t r = 0; r < rounds; ++r) {
    TRIREME_UNROLL
    for (int i = 0; i < kChains; ++i) acc[i] = hn::MulAdd(acc[i], a, b);
  }
  V sum = acc[0];
  TRIREME_UNROLL
  for (int i = 1; i < kChains; ++i) sum = hn::Add(sum, acc[i]);
  return hn::GetLane(sum);
}
double FlopsPerRound() {
  return 2.0 * kChains * static_cast<double>(hn::Lanes(hn::ScalableTag<float>()));
}

// Sums 64-bit words of `kStreams` equal shares of the data side by side. Returns something that
// depends on all of it.
template <size_t kStreams>
uint64_t Read(const std::byte* data, size_t bytes) {
  const hn::ScalableTag<uint64_t> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kStep = 256;
  const size_t share = bytes / kStreams / kStep * kStep;
  const size_t lanes_bytes = hn::Lanes(d) * sizeof(uint64_t);
  V sums[kStreams];
  TRIREME_UNROLL
  for (size_t s = 0; s < kStreams; ++s) sums[s] = hn::Zero(d);
  for (size_t i = 0; i < share; i += kStep) {
    TRIREME_UNROLL
    for (size_t s = 0; s < kStreams; ++s) {
      const std::byte* at = data + s * share + i;
      for (size_t j = 0; j < kStep; j += lanes_bytes) {
        sums[s] = hn::Add(sums[s], hn::LoadU(d, reinterpret_cast<const uint64_t*>(at + j)));
      }
    }
  }
  TRIREME_UNROLL
  for (size_t s = 1; s < kStreams; ++s) sums[0] = hn::Add(sums[0], sums[s]);
  return hn::GetLane(hn::SumOfLanes(d, sums[0]));
}

}  // namespace

struct Probe {
  float (*multiply_add)(int64_t, float) = MultiplyAdd;
  double (*flops_per_round)() = FlopsPerRound;
  std::array<uint64_t (*)(const std::byte*, size_t), 3> reads = {Read<1>, Read<2>, Read<4>};
};
Probe MakeProbe() { return {}; }

}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TRIREME_SIMD

#if HWY_ONCE
#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>
#include <vector>

namespace trireme {
namespace {

// Seconds from when all threads are there until the last is done with f(thread).
template <typename F>
double TimeThreads(int n_threads, const F& f) {
  std::atomic<int> ready = 0;
  std::atomic<bool> go = false;
  std::vector<std::thread> threads;
  for (int i = 1; i < n_threads; ++i) {
    threads.emplace_back([&, i] {
      ++ready;
      while (!go.load()) {
      }
      f(i);
    });
  }
  while (ready.load() != n_threads - 1) {
  }
  const auto start = std::chrono::steady_clock::now();
  go.store(true);
  f(0);
  for (std::thread& thread : threads) thread.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::atomic<uint64_t> sink;  // so that nothing measured is optimised away

}  // namespace

double ReadBandwidth(std::span<const std::byte> data, int n_threads) {
  const size_t share = data.size() / static_cast<size_t>(n_threads);
  double seconds = std::numeric_limits<double>::infinity();
  for (const auto read : N_AVX2::MakeProbe().reads) {
    seconds = std::min(seconds, TimeThreads(n_threads, [&](int thread) {
                         sink += read(data.data() + static_cast<size_t>(thread) * share, share);
                       }));
  }
  return static_cast<double>(share * static_cast<size_t>(n_threads)) / seconds;
}

double FmaPeak(int n_threads, bool avx512) {
  constexpr int64_t kRounds = 300'000;
  const auto multiply_add =
      avx512 ? N_AVX3::MakeProbe().multiply_add : N_AVX2::MakeProbe().multiply_add;
  const double per_round =
      avx512 ? N_AVX3::MakeProbe().flops_per_round() : N_AVX2::MakeProbe().flops_per_round();
  const double seconds = TimeThreads(n_threads, [&](int thread) {
    sink += static_cast<uint64_t>(multiply_add(kRounds, 0.25f + static_cast<float>(thread)));
  });
  return per_round * static_cast<double>(kRounds) * n_threads / seconds;
}

}  // namespace trireme
#endif
