#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace trireme {
namespace {

// Below this a temperature is greedy: 1 / temperature would carry logits out of float32.
constexpr float kSmallestTemperature = 1e-5f;
static_assert(kMaxTopLogprobs == kMostTopLogprobs);
constexpr int64_t kGatherBytes = int64_t{8} << 20;  // of logits exchanged at a time, or one row

bool Greedy(const SampleRow& row) { return row.params.temperature < kSmallestTemperature; }

bool HasFilter(const SampleRow& row) {
  return !Greedy(row) && (row.params.top_k > 0 || row.params.top_p < 1 || row.params.min_p > 0);
}

Draw DrawOf(const SampleRow& row) {
  return {.inverse_temperature =
              Greedy(row) ? std::numeric_limits<float>::infinity() : 1 / row.params.temperature,
          .seed = row.params.seed,
          .choice = row.choice,
          .token_index = row.token_index};
}

int64_t ExchangedRows(const Split& split, int64_t max_rows) {
  const int64_t row_bytes = split.tp() * split.largest_vocab() * int64_t{sizeof(float)};
  return std::clamp<int64_t>(kGatherBytes / std::max<int64_t>(row_bytes, 1), 1, max_rows);
}

}  // namespace

Sampler::Sampler(Mesh& mesh, int64_t max_rows)
    : mesh_(mesh),
      width_(mesh.split().largest_vocab()),
      n_exchanged_(ExchangedRows(mesh.split(), max_rows)),
      firsts_(mesh.split().vocab_firsts()) {
  const auto allocate = [&](int64_t n, size_t size) {
    return mesh.ops().Allocate(static_cast<size_t>(n) * size);
  };
  const int64_t tp = mesh.split().tp();
  lasts_ = allocate(max_rows, sizeof(Scored));
  rows_ = allocate(max_rows, sizeof(int32_t));
  raw_ = allocate(max_rows * width_, sizeof(float));
  filtered_ = allocate(n_exchanged_ * width_, sizeof(float));
  exchanged_ = allocate(tp > 1 ? tp * n_exchanged_ * width_ : 0, sizeof(float));
  best_ = allocate(max_rows, sizeof(Scored));
  all_best_ = allocate(tp * max_rows, sizeof(Scored));
  ids_ = allocate(max_rows, sizeof(int32_t));
  logprobs_ = allocate(max_rows * kLogprobs, sizeof(Scored));
}

size_t Sampler::GatherBytes(const Split& split, int64_t max_rows) {
  const int64_t exchanged = ExchangedRows(split, max_rows) * split.largest_vocab();
  const int64_t most =
      std::max(exchanged * int64_t{sizeof(float)}, max_rows * int64_t{sizeof(Scored)});
  return static_cast<size_t>(split.tp() * most);
}

Sampler::Samples Sampler::Sample(Tensor logits, std::span<const SampleRow> rows,
                                 std::span<const LogitEdit> edits) {
  std::vector<LogprobRow> wanted;
  std::vector<int32_t> which;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].n_top < 0) continue;
    which.push_back(static_cast<int32_t>(i));
    wanted.push_back({.row = which.back(), .id = rows[i].given, .n_top = rows[i].n_top});
  }
  const Tensor raw = which.empty() ? Tensor() : Gather(raw_, logits, which);
  mesh_.ops().EditLogits(logits, edits, mesh_.split().vocab().begin);
  const Tensor ids = DrawIds(logits, rows);
  return {ids, which.empty() ? Tensor() : Logprobs(raw, wanted, ids)};
}

Tensor Sampler::DrawIds(Tensor logits, std::span<const SampleRow> rows) {
  Ops& ops = mesh_.ops();
  const auto n = static_cast<int64_t>(rows.size());
  const int64_t tp = mesh_.split().tp();
  const Tensor lasts = FindCutoffs(logits, rows);
  std::vector<Draw> draws;
  for (const SampleRow& row : rows) draws.push_back(DrawOf(row));
  Tensor best = ScoredTensor(best_.data(), n);
  ops.DrawBest(best, logits, draws, lasts, mesh_.split().vocab().begin);
  if (tp > 1) {
    const Tensor all = ScoredTensor(all_best_.data(), tp * n);
    mesh_.tp().AllGather(all, best);
    best = all;
  }
  const Tensor ids(ids_.data(), DType::kI32, {n});
  ops.PickWinners(ids, best.As({tp, n, 2}));
  return ids;
}

Tensor Sampler::Gather(Buffer& to, Tensor logits, std::span<const int32_t> which) {
  const auto n = static_cast<int64_t>(which.size());
  const Tensor picked(rows_.data(), DType::kI32, {n});
  mesh_.ops().Upload(picked, which.data());
  const Tensor rows(to.data(), DType::kF32, {n, width_});
  mesh_.ops().GatherRows(rows, logits, picked);
  return rows;
}

Tensor Sampler::GatherShards(Tensor rows) {
  const int64_t tp = mesh_.split().tp(), n = rows.dim(0);
  if (tp == 1) return rows.As({1, n, width_});
  const Tensor all(exchanged_.data(), DType::kF32, {tp * n, width_});
  mesh_.tp().AllGather(all, rows);
  return all.As({tp, n, width_});
}

Tensor Sampler::FindCutoffs(Tensor logits, std::span<const SampleRow> rows) {
  std::vector<Filter> filters;
  for (size_t i = 0; i < rows.size(); ++i) {
    const SamplingParams& params = rows[i].params;
    if (!HasFilter(rows[i])) continue;
    filters.push_back({.row = static_cast<int32_t>(i),
                       .top_k = params.top_k,
                       .top_p = params.top_p,
                       .min_p = params.min_p,
                       .inverse_temperature = 1 / params.temperature});
  }
  if (filters.empty()) return {};
  Ops& ops = mesh_.ops();
  const Tensor lasts = ScoredTensor(lasts_.data(), static_cast<int64_t>(rows.size()));
  const std::vector<Scored> none(rows.size());
  ops.Upload(lasts, none.data());
  for (std::span<const Filter> left = filters; !left.empty();) {
    const auto some = left.first(std::min(left.size(), static_cast<size_t>(n_exchanged_)));
    left = left.subspan(some.size());
    std::vector<int32_t> which;
    for (const Filter& filter : some) which.push_back(filter.row);
    ops.FindCutoffs(lasts, GatherShards(Gather(filtered_, logits, which)), firsts_, some);
  }
  return lasts;
}

Tensor Sampler::Logprobs(Tensor raw, std::span<const LogprobRow> wanted, Tensor drawn) {
  const int64_t n = raw.dim(0);
  const Tensor logprobs(logprobs_.data(), DType::kI32, {n, kLogprobs, 2});
  for (int64_t begin = 0; begin < n; begin += n_exchanged_) {
    const int64_t end = std::min(n, begin + n_exchanged_);
    mesh_.ops().Logprobs(
        logprobs.Rows(begin, end), GatherShards(raw.Rows(begin, end)), firsts_, drawn,
        wanted.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
  }
  return logprobs;
}

}  // namespace trireme
