#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace trireme {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kFirstCandidates = 64;
constexpr int64_t kMoreCandidates = 8;
// Below this a temperature is greedy: 1 / temperature would carry logits out of float32.
constexpr float kSmallestTemperature = 1e-5f;

bool Greedy(const SampleRow& row) { return row.params.temperature < kSmallestTemperature; }

bool HasFilter(const SampleRow& row) {
  return !Greedy(row) && (row.params.top_k > 0 || row.params.top_p < 1 || row.params.min_p > 0);
}

bool NeedsMass(const SampleRow& row) {
  return row.params.top_p < 1 && row.params.top_k == 0 && row.params.min_p == 0;
}

bool Before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

Draw DrawOf(const SampleRow& row) {
  return {.inverse_temperature = Greedy(row) ? kInfinity : 1 / row.params.temperature,
          .seed = row.params.seed,
          .choice = row.choice,
          .token_index = row.token_index};
}

}  // namespace

Sampler::Sampler(Mesh& mesh, int64_t max_rows)
    : mesh_(mesh),
      vocab_here_(mesh.split().vocab().size()),
      first_id_(mesh.split().vocab().begin),
      largest_vocab_(mesh.split().largest_vocab()) {
  const size_t bytes = GatherBytes(mesh.split(), max_rows);
  mine_ = mesh.host().Allocate(bytes / static_cast<size_t>(mesh.split().tp()));
  all_ = mesh.host().Allocate(bytes);
}

size_t Sampler::GatherBytes(const Split& split, int64_t max_rows) {
  const int64_t most = std::max(max_rows * kFirstCandidates, split.largest_vocab());
  return static_cast<size_t>(most * split.tp()) * sizeof(Scored);
}

std::vector<int32_t> Sampler::Sample(Tensor logits, std::span<const SampleRow> rows) {
  Ban(logits, rows);
  if (std::any_of(rows.begin(), rows.end(), HasFilter)) Filter(logits, rows);
  return Draws(logits, rows);
}

void Sampler::Ban(Tensor logits, std::span<const SampleRow> rows) const {
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    if (!rows[i].banned_ids.empty()) {
      mesh_.ops().Ban(logits.Rows(row, row + 1).As({vocab_here_}), rows[i].banned_ids, first_id_);
    }
  }
}

std::vector<int32_t> Sampler::Draws(Tensor logits, std::span<const SampleRow> rows) {
  std::vector<Draw> draws;
  for (const SampleRow& row : rows) draws.push_back(DrawOf(row));
  std::vector<Scored> best(rows.size());
  mesh_.ops().SampleArgmax(best, logits, draws, first_id_);
  const std::span<const Scored> all = Exchange(best);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < rows.size(); ++i) {
    Scored winner = all[i];
    for (size_t r = 1; r < static_cast<size_t>(mesh_.split().tp()); ++r) {
      const Scored& other = all[r * rows.size() + i];
      if (other.id >= 0 && (winner.id < 0 || Before(other, winner))) winner = other;
    }
    ids.push_back(winner.id);
  }
  return ids;
}

void Sampler::Filter(Tensor logits, std::span<const SampleRow> rows) {
  std::vector<Filtered> pending;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (HasFilter(rows[i])) pending.push_back({.index = static_cast<int32_t>(i)});
  }
  auto row_logits = [&](int32_t index) { return logits.Rows(index, index + 1).As({vocab_here_}); };
  bool first = true;
  for (int64_t n = kFirstCandidates; !pending.empty(); n *= kMoreCandidates) {
    n = std::min(n, largest_vocab_);
    GatherCandidates(logits, n, &pending);
    if (first) GatherMass(logits, rows, &pending);
    first = false;
    std::erase_if(pending, [&](const Filtered& known) {
      Scored last;
      if (!Cutoff(rows[known.index], known, &last)) return false;
      if (last.id >= 0) mesh_.ops().MaskAfter(row_logits(known.index), last, first_id_);
      return true;
    });
  }
}

void Sampler::GatherCandidates(Tensor logits, int64_t n, std::vector<Filtered>* pending) {
  const int64_t here = std::min(n, vocab_here_);
  // Several rows at a time, as many as the exchange buffer holds.
  const size_t fit = mine_.bytes() / sizeof(Scored) / static_cast<size_t>(n);
  for (size_t begin = 0; begin < pending->size(); begin += fit) {
    const size_t end = std::min(pending->size(), begin + fit);
    std::vector<Scored> mine((end - begin) * static_cast<size_t>(n), Scored{-kInfinity, -1});
    for (size_t i = begin; i < end; ++i) {
      const int32_t index = (*pending)[i].index;
      mesh_.ops().TopLogits(
          std::span(mine).subspan((i - begin) * static_cast<size_t>(n), static_cast<size_t>(here)),
          logits.Rows(index, index + 1).As({vocab_here_}), first_id_);
    }
    const std::span<const Scored> all = Exchange(mine);
    for (size_t i = begin; i < end; ++i) {
      Filtered& known = (*pending)[i];
      known.candidates.clear();
      Scored limit{-kInfinity, std::numeric_limits<int32_t>::max()};  // unseen ids come after it
      for (size_t r = 0; r < static_cast<size_t>(mesh_.split().tp()); ++r) {
        const auto list = all.subspan(r * mine.size() + (i - begin) * static_cast<size_t>(n),
                                      static_cast<size_t>(n));
        for (const Scored& scored : list) {
          if (scored.id >= 0) known.candidates.push_back(scored);
        }
        // A full list may hide more, unless it is the rank's whole vocabulary.
        if (list.back().id >= 0 && n < largest_vocab_ && Before(list.back(), limit)) {
          limit = list.back();
        }
      }
      std::sort(known.candidates.begin(), known.candidates.end(), Before);
      known.n_reliable =
          std::upper_bound(known.candidates.begin(), known.candidates.end(), limit, Before) -
          known.candidates.begin();
    }
  }
}

void Sampler::GatherMass(Tensor logits, std::span<const SampleRow> rows,
                         std::vector<Filtered>* pending) {
  const Split& split = mesh_.split();
  const std::vector<int64_t> bounds = split.VocabBounds();
  const size_t chunks_here = bounds.size() - 1;
  const size_t most_chunks = static_cast<size_t>((split.n_chunks() + split.tp() - 1) / split.tp());
  std::vector<Filtered*> wanting;
  for (Filtered& known : *pending) {
    if (NeedsMass(rows[known.index])) wanting.push_back(&known);
  }
  if (wanting.empty()) return;
  std::vector<Scored> mine(wanting.size() * most_chunks);
  std::vector<float> sums(chunks_here);
  for (size_t i = 0; i < wanting.size(); ++i) {
    const int32_t index = wanting[i]->index;
    mesh_.ops().ExpSums(sums, logits.Rows(index, index + 1).As({vocab_here_}), bounds,
                        wanting[i]->candidates.front().score, 1 / rows[index].params.temperature);
    for (size_t c = 0; c < chunks_here; ++c) mine[i * most_chunks + c] = {sums[c], 0};
  }
  const std::span<const Scored> all = Exchange(mine);
  const std::vector<uint8_t> merges = split.chunk_merges();
  for (size_t i = 0; i < wanting.size(); ++i) {
    std::vector<float> stack;
    size_t chunk = 0;
    for (size_t r = 0; r < static_cast<size_t>(split.tp()); ++r) {
      for (size_t c = 0; c < most_chunks; ++c) {
        const Scored& sum = all[r * mine.size() + i * most_chunks + c];
        if (sum.id < 0) continue;
        stack.push_back(sum.score);
        for (uint8_t m = 0; m < merges[chunk]; ++m) {
          const float right = stack.back();
          stack.pop_back();
          stack.back() += right;
        }
        ++chunk;
      }
    }
    CHECK_EQ(stack.size(), 1u);
    wanting[i]->total_mass = stack.back();
  }
}

bool Sampler::Cutoff(const SampleRow& row, const Filtered& known, Scored* last) {
  const std::span<const Scored> sorted(known.candidates.data(),
                                       static_cast<size_t>(known.n_reliable));
  const bool all_seen = known.n_reliable == static_cast<int64_t>(known.candidates.size()) &&
                        static_cast<int64_t>(known.candidates.size()) == mesh_.split().n_vocab();
  const float inverse = 1 / row.params.temperature;
  const float max = known.candidates.front().score;
  size_t keep = std::numeric_limits<size_t>::max();  // how many ids stay

  if (row.params.min_p > 0) {
    const float least = std::log(row.params.min_p);
    auto end = std::find_if(sorted.begin(), sorted.end(),
                            [&](const Scored& s) { return !((s.score - max) * inverse >= least); });
    if (end == sorted.end() && !all_seen) return false;
    keep = static_cast<size_t>(end - sorted.begin());
  }
  if (row.params.top_k > 0) keep = std::min(keep, static_cast<size_t>(row.params.top_k));
  if (row.params.top_p < 1) {
    const bool restricted = keep != std::numeric_limits<size_t>::max();
    if (restricted && keep > sorted.size() && !all_seen) return false;
    const size_t seen = std::min(keep, sorted.size());
    std::vector<float> scores;
    std::vector<int64_t> bounds = {0};
    for (size_t i = 0; i < seen; ++i) {
      scores.push_back(sorted[i].score);
      bounds.push_back(static_cast<int64_t>(i + 1));
    }
    exps_.resize(seen);
    mesh_.host().ExpSums(exps_, Tensor(scores.data(), DType::kF32, {static_cast<int64_t>(seen)}),
                         bounds, max, inverse);
    float mass = known.total_mass;
    if (restricted) {
      mass = 0;
      for (float exp : exps_) mass += exp;
    }
    const float wanted = row.params.top_p * mass;
    float sum = 0;
    size_t n = 0;
    while (n < seen && (n == 0 || sum < wanted)) sum += exps_[n++];
    if (sum < wanted && n == seen && !restricted && !all_seen) return false;
    keep = n;
  }
  if (keep == std::numeric_limits<size_t>::max() ||
      keep >= static_cast<size_t>(mesh_.split().n_vocab())) {
    *last = {};
    return true;
  }
  if (keep > sorted.size() && !all_seen) return false;
  *last = sorted[std::min(std::max<size_t>(keep, 1), sorted.size()) - 1];
  return true;
}

std::span<const Scored> Sampler::Exchange(std::span<const Scored> mine) {
  const int64_t n = static_cast<int64_t>(mine.size());
  const int64_t tp = mesh_.split().tp();
  CHECK_LE(mine.size_bytes(), mine_.bytes());
  std::memcpy(mine_.data(), mine.data(), mine.size_bytes());
  if (tp == 1) return {reinterpret_cast<const Scored*>(mine_.data()), mine.size()};
  mesh_.tp_host().AllGather(Tensor(all_.data(), DType::kI32, {n * tp, 2}),
                            Tensor(mine_.data(), DType::kI32, {n, 2}));
  return {reinterpret_cast<const Scored*>(all_.data()), mine.size() * static_cast<size_t>(tp)};
}

}  // namespace trireme
