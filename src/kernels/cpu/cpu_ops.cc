#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "hwy/targets.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cutoff.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/logprobs.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/thread_pool.h"

namespace trireme {
namespace cpu {
namespace {

// Elements below which a verb stays on the calling thread: a fork costs a few microseconds.
constexpr int64_t kParallelElements = 32 * 1024;

bool HasTarget(int64_t target) { return (hwy::SupportedTargets() & target) != 0; }

void CheckActivation(const Tensor& t) { CHECK(t.dtype() != DType::kI32); }

Scored* Scores(Tensor t) { return reinterpret_cast<Scored*>(t.i32()); }

class HostCopy : public Readback {
 public:
  explicit HostCopy(size_t bytes) : memory_(bytes) {}
  void Start(Tensor from) override {
    n_ = from.empty() ? 0 : from.bytes();
    CHECK_LE(n_, memory_.size());
    if (n_ > 0) std::memcpy(memory_.data(), from.raw(), n_);
  }
  std::span<const std::byte> Wait() override { return {memory_.data(), n_}; }

 private:
  std::vector<std::byte> memory_;
  size_t n_ = 0;
};

class CpuOps : public Ops {
 public:
  CpuOps(const CpuOptions& options, bool avx512)
      : kernels_{LinearKernelsFor(avx512), PackKernelsFor(avx512), RowKernelsFor(avx512),
                 AttentionKernelsFor(avx512), VocabKernelsFor(avx512)},
        pool_(options.n_threads, options.cpus),
        linear_(kernels_.linear, pool_),
        attention_(kernels_.attention, pool_),
        max_rows_(options.max_rows) {
    for (int i = 0; i < options.n_threads; ++i) {
      cutoffs_.emplace_back(kernels_.vocab);
      logprobs_.emplace_back(kernels_.vocab);
    }
  }

  Buffer Allocate(size_t bytes) override { return AllocateZeroed(bytes); }
  void Synchronize() override {}
  void Upload(Tensor to, const void* from) override {
    if (!to.empty()) std::memcpy(to.raw(), from, to.bytes());
  }

  void Download(void* to, Tensor from) override {
    if (!from.empty()) std::memcpy(to, from.raw(), from.bytes());
  }
  std::unique_ptr<Readback> MakeReadback(size_t bytes) override {
    return std::make_unique<HostCopy>(bytes);
  }

  absl::StatusOr<std::unique_ptr<Weight>> Pack(const MatrixSource& source,
                                               const WeightSpec& spec) override {
    ASSIGN_OR_RETURN(std::unique_ptr<PackedWeight> weight,
                     cpu::Pack(source, spec, kernels_.pack, pool_));
    linear_.Reserve(max_rows_, *weight);
    return weight;
  }
  void Linear(Tensor y, Tensor x, const Weight& w) override {
    CheckActivation(x);
    CheckActivation(y);
    linear_.Run(y, x, static_cast<const PackedWeight&>(w));
  }

  void SumParts(Tensor y, std::span<const float* const> parts, std::span<const uint8_t> merges,
                const float* bias) override {
    CheckActivation(y);
    CHECK(!parts.empty());
    CHECK_EQ(parts.size(), merges.size());
    ForRows(y.dim(0), y.dim(1), [&](int64_t begin, int64_t end) {
      kernels_.rows.sum_parts(y.raw(), y.dtype(), parts, merges, bias, begin, end, y.dim(1));
    });
  }

  void Embed(Tensor y, Tensor ids, const Weight& w, int64_t first_row) override {
    CheckActivation(y);
    CHECK_EQ(y.dim(1), w.n_in());
    const auto& packed = static_cast<const PackedWeight&>(w);
    const int64_t h = y.dim(1);
    float* rows = rows_.Get<float>(pool_.size() * h);
    pool_.For(y.dim(0), [&](int64_t t, int thread) {
      float* row = rows + thread * h;
      const int64_t i = ids.i32()[t] - first_row;
      if (0 <= i && i < w.n_out()) {
        packed.UnpackRow(i, row);
        for (int64_t c = 0; c < h; ++c) row[c] += 0.0f;
      } else {
        std::fill_n(row, h, 0.0f);
      }
      kernels_.pack.convert(row, DType::kF32, y.Rows(t, t + 1).raw(), y.dtype(), h);
    });
  }

  void RmsNorm(Tensor y, Tensor x, Tensor w, float eps) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    ForRows(x.dim(0), x.dim(1), [&](int64_t begin, int64_t end) {
      kernels_.rows.rms_norm(y.Rows(begin, end).raw(), x.Rows(begin, end).raw(), x.dtype(), w.f32(),
                             eps, end - begin, x.dim(1));
    });
  }
  void AddRmsNorm(Tensor y, Tensor r, Tensor x, Tensor w, float eps) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype() && x.dtype() == r.dtype());
    ForRows(x.dim(0), x.dim(1), [&](int64_t begin, int64_t end) {
      void* rows = r.Rows(begin, end).raw();
      kernels_.rows.add(rows, x.Rows(begin, end).raw(), x.dtype(), (end - begin) * x.dim(1));
      kernels_.rows.rms_norm(y.Rows(begin, end).raw(), rows, x.dtype(), w.f32(), eps, end - begin,
                             x.dim(1));
    });
  }
  void LayerNorm(Tensor y, Tensor x, Tensor w, Tensor b, float eps) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    ForRows(x.dim(0), x.dim(1), [&](int64_t begin, int64_t end) {
      kernels_.rows.layer_norm(y.Rows(begin, end).raw(), x.Rows(begin, end).raw(), x.dtype(),
                               w.f32(), b.f32(), eps, end - begin, x.dim(1));
    });
  }
  void AddLayerNorm(Tensor y, Tensor r, Tensor x, Tensor w, Tensor b, float eps) override {
    Add(r, x);
    LayerNorm(y, r, w, b, eps);
  }
  void Add(Tensor r, Tensor x) override {
    CheckActivation(x);
    CHECK(x.dtype() == r.dtype());
    ForRows(x.dim(0), x.dim(1), [&](int64_t begin, int64_t end) {
      kernels_.rows.add(r.Rows(begin, end).raw(), x.Rows(begin, end).raw(), x.dtype(),
                        (end - begin) * x.dim(1));
    });
  }
  void Dropout(Tensor x, std::span<const DropoutRow> rows, int32_t site) override {
    CheckActivation(x);
    CHECK_EQ(static_cast<int64_t>(rows.size()), x.dim(0));
    ForRows(x.dim(0), x.dim(1), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const DropoutRow& row = rows[static_cast<size_t>(t)];
        if (row.p > 0)
          kernels_.rows.dropout(x.Rows(t, t + 1).raw(), x.dtype(), row, site, x.dim(1));
      }
    });
  }
  void GatedAct(Tensor y, Tensor x, Activation act) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    CHECK_EQ(x.dim(1), 2 * y.dim(1));
    ForRows(y.dim(0), y.dim(1), [&](int64_t begin, int64_t end) {
      kernels_.rows.gated_act(y.Rows(begin, end).raw(), x.Rows(begin, end).raw(), x.dtype(), act,
                              end - begin, y.dim(1));
    });
  }
  void Act(Tensor y, Tensor x, Activation act) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    ForRows(y.dim(0), y.dim(1), [&](int64_t begin, int64_t end) {
      kernels_.rows.act(y.Rows(begin, end).raw(), x.Rows(begin, end).raw(), x.dtype(), act,
                        (end - begin) * y.dim(1));
    });
  }
  void GatherRows(Tensor y, Tensor x, Tensor rows) override {
    CHECK(x.dtype() == y.dtype());
    CHECK_LE(x.dim(1), y.dim(1));
    if (y.empty() || x.empty()) return;
    const size_t row_bytes = static_cast<size_t>(x.dim(1)) * SizeOf(x.dtype());
    for (int64_t i = 0; i < y.dim(0); ++i) {
      const int64_t row = rows.i32()[i];
      std::memcpy(y.Rows(i, i + 1).raw(), x.Rows(row, row + 1).raw(), row_bytes);
    }
  }

  void RopeStoreKv(Tensor q, KvLayer kv, Tensor qkv, Tensor cos, Tensor sin, Tensor slots,
                   const HeadMap& heads) override {
    CheckActivation(q);
    CHECK(q.dtype() == qkv.dtype());
    attention_.RopeStoreKv(q, kv, qkv, cos, sin, slots, heads);
  }
  void Attention(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan, float scale,
                 const HeadMap& heads) override {
    CheckActivation(q);
    CHECK(q.dtype() == y.dtype());
    attention_.Run(y, q, kv, plan, scale, heads);
  }

  void EditLogits(Tensor logits, std::span<const LogitEdit> edits, int64_t first_id) override {
    const int64_t v = logits.dim(1);
    for (const LogitEdit& edit : edits) {
      const int64_t at = edit.id - first_id;
      if (at < 0 || at >= v) continue;
      float& logit = logits.f32()[edit.row * v + at];
      logit = Edited(logit, edit);
    }
  }

  void FindCutoffs(Tensor lasts, Tensor logits, std::span<const int64_t> firsts,
                   std::span<const Filter> filters) override {
    ForWholeRows(logits, firsts, filters.size(), [&](auto row, size_t i, size_t thread) {
      Scored last = cutoffs_[thread].Find(row, filters[i]);
      if (last.id >= 0) last.id += static_cast<int32_t>(firsts.front());
      Scores(lasts)[filters[i].row] = last;
    });
  }

  void Logprobs(Tensor logprobs, Tensor logits, std::span<const int64_t> firsts, Tensor drawn,
                std::span<const LogprobRow> rows) override {
    const auto first_id = static_cast<int32_t>(firsts.front());
    ForWholeRows(logits, firsts, rows.size(), [&](auto row, size_t i, size_t thread) {
      const LogprobRow& wanted = rows[i];
      const int32_t id = wanted.id >= 0 ? wanted.id : drawn.i32()[wanted.row];
      const std::span<Scored> found(Scores(logprobs) + i * kLogprobs, kLogprobs);
      logprobs_[thread].Find(found, row, id - first_id, wanted.n_top);
      for (Scored& scored : found) {
        if (scored.id >= 0) scored.id += first_id;
      }
    });
  }

  void DrawBest(Tensor best, Tensor logits, std::span<const Draw> draws, Tensor lasts,
                int64_t first_id) override {
    CHECK_EQ(best.dim(0), static_cast<int64_t>(draws.size()));
    CHECK_EQ(best.dim(0), logits.dim(0));
    const int64_t v = logits.dim(1);
    pool_.For(logits.dim(0), [&](int64_t i, int) {
      const Scored last = lasts.empty() ? Scored{} : Scores(lasts)[i];
      Scores(best)[i] = kernels_.vocab.sample(logits.f32() + i * v, v,
                                              draws[static_cast<size_t>(i)], last, first_id);
    });
  }

  void PickWinners(Tensor ids, Tensor best) override {
    const int64_t rows = ids.dim(0);
    for (int64_t i = 0; i < rows; ++i) {
      Scored winner;
      for (int64_t shard = 0; shard < best.dim(0); ++shard) {
        const Scored& other = Scores(best)[shard * rows + i];
        const bool before =
            other.score > winner.score || (other.score == winner.score && other.id < winner.id);
        if (other.id >= 0 && (winner.id < 0 || before)) winner = other;
      }
      ids.i32()[i] = winner.id;
    }
  }

  void Feed(Tensor ids, Tensor drawn) override {
    for (int64_t t = 0; t < ids.size(); ++t) {
      int32_t& id = ids.i32()[t];
      if (id < 0) id = drawn.i32()[~id];
    }
  }

 private:
  // f(begin, end) over ranges that cover the rows of a [rows, h] verb.
  template <typename F>
  void ForRows(int64_t rows, int64_t h, const F& f) {
    if (rows == 0 || h == 0) return;
    if (rows == 1 || rows * h < kParallelElements) return f(0, rows);
    const int64_t step = std::max<int64_t>(1, kParallelElements / 4 / h);
    pool_.For((rows + step - 1) / step,
              [&](int64_t i, int) { f(i * step, std::min(rows, (i + 1) * step)); });
  }

  // f(row, i, thread) over the first n rows of logits that lie in shards: see FindCutoffs.
  template <typename F>
  void ForWholeRows(Tensor logits, std::span<const int64_t> firsts, size_t n, const F& f) {
    const int64_t n_shards = logits.dim(0), n_rows = logits.dim(1), width = logits.dim(2);
    CHECK_EQ(static_cast<int64_t>(firsts.size()), n_shards + 1);
    CHECK_LE(static_cast<int64_t>(n), n_rows);
    const int64_t v = firsts.back() - firsts.front();
    float* whole = n_shards == 1 ? nullptr : rows_.Get<float>(n_rows * v);
    pool_.For(static_cast<int64_t>(n), [&](int64_t i, int thread) {
      const float* row = logits.f32() + i * width;
      if (n_shards > 1) {
        for (int64_t shard = 0; shard < n_shards; ++shard) {
          const size_t n_here = static_cast<size_t>(firsts[shard + 1] - firsts[shard]);
          std::memcpy(whole + i * v + firsts[shard] - firsts[0],
                      logits.f32() + (shard * n_rows + i) * width, n_here * sizeof(float));
        }
        row = whole + i * v;
      }
      f(std::span(row, static_cast<size_t>(v)), static_cast<size_t>(i),
        static_cast<size_t>(thread));
    });
  }

  const Kernels kernels_;
  ThreadPool pool_;
  LinearDriver linear_;
  AttentionDriver attention_;
  std::vector<CutoffFinder> cutoffs_;    // per thread
  std::vector<LogprobFinder> logprobs_;  // per thread
  Scratch rows_;
  const int64_t max_rows_;
};

}  // namespace
}  // namespace cpu

absl::StatusOr<std::unique_ptr<Ops>> MakeCpuOps(const CpuOptions& options) {
  if (!cpu::HasTarget(HWY_AVX2)) {
    return FailedPrecondition(
        "this CPU has no AVX2 with FMA and F16C, which the CPU backend needs: use a newer machine");
  }
  if (options.n_threads < 1) {
    return InvalidArgument("threads have to be at least 1, not ", options.n_threads);
  }
  if (!options.cpus.empty() && static_cast<int>(options.cpus.size()) != options.n_threads) {
    return InvalidArgument(options.cpus.size(), " cpus for ", options.n_threads,
                           " threads: give one for each, or none");
  }
  return std::unique_ptr<Ops>(
      std::make_unique<cpu::CpuOps>(options, options.avx512 && cpu::HasTarget(HWY_AVX3)));
}

std::string CpuTargetName(bool avx512) {
  return avx512 && cpu::HasTarget(HWY_AVX3) ? "AVX-512" : "AVX2";
}

}  // namespace trireme
