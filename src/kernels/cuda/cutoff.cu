// Where a row's filters cut the ids ordered by (logit descending, id ascending): the id at which a
// count or a mass is reached, found digit by digit. A block has a row; the first digit is how far a
// logit is below the largest, which spreads them; then the bytes of (logit, id).
#include <cmath>

#include "kernels/cuda/vocab_row.cuh"
#include "kernels/filter.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kBins = kThreads;     // of the first digit; a thread each
constexpr float kBinsPerUnit = 32;  // of logit * inverse_temperature
constexpr int kDigits = 8;          // bytes after the first digit

struct CutoffShared {
  Mass masses[kBins];
  int counts[kBins];
  Mass sums[kThreads / kWarp];
  float maxima[kThreads / kWarp];
  int bin, bin_count;              // where the target is reached
  Mass count_before, mass_before;  // of what comes before that bin
  Mass total;
  Scored last;
  Mass last_mass;
};

__device__ __forceinline__ int FirstDigit(const VocabRow& row, float x) {
  if (x == row.max) return 0;
  const float below = (row.max - x) * row.inverse_temperature * kBinsPerUnit;
  return below < static_cast<float>(kBins - 1) ? static_cast<int>(below) : kBins - 1;
}

// Descending as the order of ids goes.
__device__ __forceinline__ uint64_t Order(float x, int id) {
  const uint32_t bits = __float_as_uint(x + 0.0f);  // -0 is 0
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ascending) << 32 | ~static_cast<uint32_t>(id);
}

// x of this thread and those before it. sums: one per warp; free again after the next barrier.
__device__ Mass BlockPrefixSum(Mass x, Mass* sums) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const Mass below = __shfl_up_sync(kFullMask, x, static_cast<unsigned>(distance));
    if (lane >= distance) x += below;
  }
  if (lane == kWarp - 1) sums[warp] = x;
  __syncthreads();
  for (int w = 0; w < warp; ++w) x += sums[w];
  return x;
}

// Leaves in s.last the first id at which the count, or the mass, of the ids so far reaches
// target(mass of all), and that mass in s.last_mass.
template <bool kByMass, typename Target>
__device__ void Descend(CutoffShared& s, const VocabRow& row, const Target& target) {
  const int thread = static_cast<int>(threadIdx.x);
  Mass wanted = 0, count_before = 0, mass_before = 0;
  int first_digit = 0;
  uint64_t prefix = 0;  // of Order(), as far as it is known
  const auto is_candidate = [&](float x, uint64_t order, int digits) {
    return FirstDigit(row, x) == first_digit &&
           (digits == 0 || order >> (64 - 8 * digits) == prefix);
  };
  for (int digits = 0; digits <= kDigits; ++digits) {  // that are known when it begins, but one
    s.masses[thread] = 0;
    s.counts[thread] = 0;
    __syncthreads();
    row.Each([&](float x, int id) {
      int bin = 0;
      if (digits == 0) {
        bin = FirstDigit(row, x);
      } else {
        const uint64_t order = Order(x, id);
        if (!is_candidate(x, order, digits - 1)) return;
        bin = 255 - static_cast<int>(order >> (64 - 8 * digits) & 255u);
      }
      atomicAdd(&s.counts[bin], 1);
      if (const Mass mass = row.MassOf(x); mass > 0) atomicAdd(&s.masses[bin], mass);
    });
    __syncthreads();
    const Mass mass = s.masses[thread], count = static_cast<Mass>(s.counts[thread]);
    const Mass masses = BlockPrefixSum(mass, s.sums);
    if (thread == kBins - 1) s.total = masses;
    __syncthreads();
    const Mass counts = BlockPrefixSum(count, s.sums);
    if (digits == 0) wanted = target(s.total);
    const Mass reached = kByMass ? mass_before + masses : count_before + counts;
    const Mass mine = kByMass ? mass : count;
    if (reached - mine < wanted && wanted <= reached) {
      s.bin = thread;
      s.bin_count = static_cast<int>(count);
      s.mass_before = mass_before + masses - mass;
      s.count_before = count_before + counts - count;
    }
    __syncthreads();
    mass_before = s.mass_before;
    count_before = s.count_before;
    if (digits == 0) {
      first_digit = s.bin;
    } else {
      prefix = prefix << 8 | static_cast<uint64_t>(255 - s.bin);
    }
    if (s.bin_count > 1) continue;
    row.Each([&](float x, int id) {
      if (!is_candidate(x, Order(x, id), digits)) return;
      s.last = {x, id};
      s.last_mass = mass_before + row.MassOf(x);
    });
    break;
  }
  __syncthreads();
}

// One block a filter.
__global__ void __launch_bounds__(kThreads)
    CutoffKernel(Scored* lasts, const float* logits, int64_t shard_stride, int64_t row_stride,
                 const __grid_constant__ ShardFirsts shards, const Filter* filters) {
  CutoffShared& s = *Shared<CutoffShared>();
  const int thread = static_cast<int>(threadIdx.x);
  const Filter filter = filters[blockIdx.x];
  VocabRow row = {logits + blockIdx.x * row_stride, shard_stride, &shards, 0,
                  filter.inverse_temperature};
  float max = MinusInfinity();
  row.Each([&](float x, int) { max = fmaxf(max, x); });
  row.max = BlockMax(max, s.maxima);
  if (row.max == MinusInfinity()) {
    if (thread == 0) lasts[filter.row] = {0, -1};
    return;
  }

  const int v = shards.firsts[shards.n] - shards.firsts[0];
  int keep = v;
  if (filter.min_p > 0) {
    const float least = logf(filter.min_p);
    int mine = 0;
    row.Each([&](float x, int) {
      mine += x == row.max || (x - row.max) * filter.inverse_temperature >= least ? 1 : 0;
    });
    const Mass kept = BlockPrefixSum(static_cast<Mass>(mine), s.sums);
    if (thread == kThreads - 1) s.total = kept;
    __syncthreads();
    keep = static_cast<int>(s.total);
  }
  if (filter.top_k > 0 && filter.top_k < keep) keep = filter.top_k;
  const bool restricted = keep < v;
  if (restricted) {
    Descend<false>(s, row, [&](Mass) { return static_cast<Mass>(keep); });
  }
  if (filter.top_p < 1) {
    const Mass kept = s.last_mass;
    Descend<true>(s, row,
                  [&](Mass all) { return KeptMass(filter.top_p, restricted ? kept : all); });
  }
  if (thread == 0) lasts[filter.row] = restricted || filter.top_p < 1 ? s.last : Scored{0, -1};
}

}  // namespace

void FindCutoffs(Scored* lasts, Tensor logits, const ShardFirsts& shards, const Filter* filters,
                 int n_filters, cudaStream_t stream) {
  if (n_filters == 0) return;
  const int64_t width = logits.dim(2);
  Launch<CutoffKernel>({dim3{static_cast<unsigned>(n_filters), 1, 1}, dim3{kThreads, 1, 1},
                        sizeof(CutoffShared), stream},
                       lasts, static_cast<const float*>(logits.raw()), logits.dim(1) * width, width,
                       shards, filters);
}

}  // namespace trireme::cuda
