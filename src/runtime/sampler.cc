#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace trireme {
namespace {

// Below this a temperature is greedy: 1 / temperature would carry logits out of float32.
constexpr float kSmallestTemperature = 1e-5f;
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

int64_t FilteredRows(const Split& split, int64_t max_rows) {
  const int64_t row_bytes = split.tp() * split.largest_vocab() * int64_t{sizeof(float)};
  return std::clamp<int64_t>(kGatherBytes / std::max<int64_t>(row_bytes, 1), 1, max_rows);
}

}  // namespace

Sampler::Sampler(Mesh& mesh, int64_t max_rows)
    : mesh_(mesh),
      width_(mesh.split().largest_vocab()),
      n_filtered_(FilteredRows(mesh.split(), max_rows)),
      firsts_(mesh.split().vocab_firsts()) {
  const auto allocate = [&](int64_t n, size_t size) {
    return mesh.ops().Allocate(static_cast<size_t>(n) * size);
  };
  const int64_t tp = mesh.split().tp();
  lasts_ = allocate(max_rows, sizeof(Scored));
  rows_ = allocate(n_filtered_, sizeof(int32_t));
  filtered_ = allocate(n_filtered_ * width_, sizeof(float));
  all_filtered_ = allocate(tp > 1 ? tp * n_filtered_ * width_ : 0, sizeof(float));
  best_ = allocate(max_rows, sizeof(Scored));
  all_best_ = allocate(tp * max_rows, sizeof(Scored));
  ids_ = allocate(max_rows, sizeof(int32_t));
}

size_t Sampler::GatherBytes(const Split& split, int64_t max_rows) {
  const int64_t filtered = FilteredRows(split, max_rows) * split.largest_vocab();
  const int64_t most =
      std::max(filtered * int64_t{sizeof(float)}, max_rows * int64_t{sizeof(Scored)});
  return static_cast<size_t>(split.tp() * most);
}

Tensor Sampler::Sample(Tensor logits, std::span<const SampleRow> rows) {
  Ops& ops = mesh_.ops();
  const auto n = static_cast<int64_t>(rows.size());
  const int64_t tp = mesh_.split().tp();
  Ban(logits, rows);
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

void Sampler::Ban(Tensor logits, std::span<const SampleRow> rows) const {
  const Range here = mesh_.split().vocab();
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    if (!rows[i].banned_ids.empty()) {
      mesh_.ops().Ban(logits.Rows(row, row + 1).As({here.size()}), rows[i].banned_ids, here.begin);
    }
  }
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
  const int64_t tp = mesh_.split().tp();
  const Tensor lasts = ScoredTensor(lasts_.data(), static_cast<int64_t>(rows.size()));
  const std::vector<Scored> none(rows.size());
  ops.Upload(lasts, none.data());
  for (std::span<const Filter> left = filters; !left.empty();) {
    const auto some = left.first(std::min(left.size(), static_cast<size_t>(n_filtered_)));
    left = left.subspan(some.size());
    const auto n = static_cast<int64_t>(some.size());
    std::vector<int32_t> which;
    for (const Filter& filter : some) which.push_back(filter.row);
    const Tensor picked(rows_.data(), DType::kI32, {n});
    ops.Upload(picked, which.data());
    Tensor shards(filtered_.data(), DType::kF32, {n, width_});
    ops.GatherRows(shards, logits, picked);
    if (tp > 1) {
      const Tensor all(all_filtered_.data(), DType::kF32, {tp * n, width_});
      mesh_.tp().AllGather(all, shards);
      shards = all;
    }
    ops.FindCutoffs(lasts, shards.As({tp, n, width_}), firsts_, some);
  }
  return lasts;
}

}  // namespace trireme
