#include "parallel/split.h"

#include <algorithm>
#include <bit>

namespace trireme {
namespace {

constexpr int kMaxChunks = 32;

// Weights of one layer, in elements: the unit does not matter for balance.
int64_t LayerElements(const ModelConfig& c) {
  const int64_t q = c.n_heads * c.head_dim, kv = c.n_kv_heads * c.head_dim;
  return c.hidden * (2 * q + 2 * kv) + 3 * c.hidden * c.ffn;
}

}  // namespace

absl::StatusOr<Split> Split::Make(const ModelConfig& config, const Layout& layout, int rank,
                                  Reduction reduction) {
  if (layout.tp < 1 || layout.tp > config.n_heads) {
    return InvalidArgument("--tp ", layout.tp, ": expected 1 to ", config.n_heads,
                           ", the model's query heads");
  }
  if (layout.pp < 1 || layout.pp > config.n_layers) {
    return InvalidArgument("--pp ", layout.pp, ": expected 1 to ", config.n_layers,
                           ", the model's layers");
  }
  CHECK(0 <= rank && rank < layout.n_ranks());
  Split split;
  split.tp_ = layout.tp;
  split.pp_ = layout.pp;
  split.tp_rank_ = rank % layout.tp;
  split.stage_ = rank / layout.tp;
  split.reduction_ = reduction;
  split.n_chunks_ = layout.tp;
  if (reduction == Reduction::kExact) {
    const int64_t most = std::min<int64_t>(config.n_heads, kMaxChunks);
    const int exact_chunks = static_cast<int>(std::bit_floor(static_cast<uint64_t>(most)));
    split.n_chunks_ = std::max(exact_chunks, layout.tp);
  }
  split.n_heads_ = config.n_heads;
  split.n_kv_heads_ = config.n_kv_heads;
  split.ffn_ = config.ffn;
  split.vocab_ = config.vocab;
  const int64_t vocab_elements = config.vocab * config.hidden;
  split.stages_ = BalanceStages(config.n_layers, layout.pp, LayerElements(config), vocab_elements,
                                vocab_elements);

  const SumTree tree(split.n_chunks_);
  std::vector<ChunkRange> parts;
  for (int r = 0; r < split.tp_; ++r) {
    const std::vector<ChunkRange> cover = tree.Cover(split.Chunks(r));
    split.group_sum_.n_parts.push_back(static_cast<int>(cover.size()));
    parts.insert(parts.end(), cover.begin(), cover.end());
  }
  split.group_sum_.merges = tree.Finish(parts);
  return split;
}

ChunkRange Split::Chunks(int tp_rank) const {
  return {tp_rank * n_chunks_ / tp_, (tp_rank + 1) * n_chunks_ / tp_};
}

Range Split::Own(int64_t n) const {
  const ChunkRange own = chunks();
  return {own.begin * n / n_chunks_, own.end * n / n_chunks_};
}

Range Split::kv_heads() const {
  const int64_t group = n_heads_ / n_kv_heads_;
  const Range q = heads();
  return {q.begin / group, (q.end + group - 1) / group};
}

std::vector<int64_t> Split::vocab_firsts() const {
  std::vector<int64_t> firsts = {0};
  for (int r = 0; r < tp_; ++r) firsts.push_back(Chunks(r).end * vocab_ / n_chunks_);
  return firsts;
}

int64_t Split::largest_vocab() const {
  const std::vector<int64_t> firsts = vocab_firsts();
  int64_t most = 0;
  for (size_t r = 1; r < firsts.size(); ++r) most = std::max(most, firsts[r] - firsts[r - 1]);
  return most;
}

HeadMap Split::head_map() const {
  const int64_t group = n_heads_ / n_kv_heads_;
  return {heads().size(), kv_heads().size(), group, heads().begin % group};
}

std::vector<int64_t> Split::ChunkBounds(int64_t n, int64_t scale) const {
  const ChunkRange own = chunks();
  const int64_t first = own.begin * n / n_chunks_;
  std::vector<int64_t> bounds;
  for (int c = own.begin; c <= own.end; ++c) bounds.push_back((c * n / n_chunks_ - first) * scale);
  return bounds;
}

std::vector<int> Split::tp_group() const {
  std::vector<int> ranks;
  for (int r = 0; r < tp_; ++r) ranks.push_back(stage_ * tp_ + r);
  return ranks;
}

std::vector<int> Split::pp_group() const {
  std::vector<int> ranks;
  for (int s = 0; s < pp_; ++s) ranks.push_back(s * tp_ + tp_rank_);
  return ranks;
}

std::vector<Range> BalanceStages(int64_t n_layers, int pp, int64_t layer_bytes, int64_t first_bytes,
                                 int64_t last_bytes) {
  // cost[s][n]: the smallest possible largest stage when n layers are in the first s+1 stages.
  auto stage_bytes = [&](int stage, int64_t layers) {
    return layers * layer_bytes + (stage == 0 ? first_bytes : 0) +
           (stage == pp - 1 ? last_bytes : 0);
  };
  const size_t width = static_cast<size_t>(n_layers) + 1;
  std::vector<std::vector<int64_t>> cost(pp, std::vector<int64_t>(width, INT64_MAX));
  std::vector<std::vector<int64_t>> take(pp, std::vector<int64_t>(width, 0));
  for (int64_t n = 1; n <= n_layers; ++n) {
    cost[0][n] = stage_bytes(0, n);
    take[0][n] = n;
  }
  for (int s = 1; s < pp; ++s) {
    for (int64_t n = s + 1; n <= n_layers; ++n) {
      for (int64_t k = 1; k <= n - s; ++k) {
        const int64_t worst = std::max(cost[s - 1][n - k], stage_bytes(s, k));
        if (worst < cost[s][n]) {
          cost[s][n] = worst;
          take[s][n] = k;
        }
      }
    }
  }
  std::vector<Range> stages(pp);
  int64_t end = n_layers;
  for (int s = pp - 1; s >= 0; --s) {
    stages[s] = {end - take[s][end], end};
    end = stages[s].begin;
  }
  return stages;
}

}  // namespace trireme
