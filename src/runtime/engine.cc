#include "runtime/engine.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace trireme {
namespace {

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// What a replayed step is padded to: few enough shapes to record, little enough waste.
int64_t PaddedRows(int64_t n) {
  if (n <= 8) return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
  return RoundUp(n, n <= 64 ? 8 : 32);
}
int64_t PaddedKvLen(int64_t n) {
  int64_t padded = 1024;
  while (padded < n) padded *= 4;
  return padded;
}

}  // namespace

Engine::Engine(const ModelConfig& config, std::unique_ptr<Model> model, Mesh& mesh,
               const EngineOptions& options)
    : config_(config),
      model_(std::move(model)),
      mesh_(mesh),
      options_(options),
      asynchronous_(mesh.ops().Asynchronous()),
      rope_(config) {
  Ops& ops = mesh.ops();
  const Split& split = mesh.split();
  SetKvBlocks(options.n_blocks);
  StepSize largest = options.largest;
  largest.n_tokens = RoundUp(largest.n_tokens, split.tp());
  const ArenaBytes bytes = Arenas(config, split, largest, options.activations);
  const int64_t max_blocks = RoundUp(options.context_length, kKvBlockSize) / kKvBlockSize;
  const int64_t plan_bytes = (largest.n_rows * (max_blocks + 4) + 64) * 4;
  arenas_.step = Arena(ops.Allocate(bytes.step + static_cast<size_t>(plan_bytes)));
  arenas_.attention = Arena(ops.Allocate(bytes.attention));
  arenas_.mlp = Arena(ops.Allocate(bytes.mlp));
  if (split.last_stage()) sampler_ = std::make_unique<Sampler>(mesh, largest.n_rows);
  for (int i = 0; i < most_started(); ++i) {
    const auto n_rows = static_cast<size_t>(largest.n_rows);
    free_readbacks_.push_back({ops.MakeReadback(n_rows * sizeof(int32_t)),
                               ops.MakeReadback(n_rows * kLogprobs * sizeof(Scored))});
  }
}

void Engine::SetKvBlocks(int64_t n_blocks) {
  CHECK_EQ(n_started(), 0);
  const Split& split = mesh_.split();
  const int64_t K = split.kv_heads().size(), D = config_.head_dim;
  const int64_t page_bytes =
      n_blocks * K * D * kKvBlockSize * static_cast<int64_t>(SizeOf(options_.activations));
  kv_.clear();
  kv_pages_ = Buffer();  // there may be no room for both
  kv_pages_ = mesh_.ops().Allocate(static_cast<size_t>(2 * page_bytes * split.layers().size()));
  for (int64_t i = 0; i < split.layers().size(); ++i) {
    std::byte* k = kv_pages_.data() + 2 * i * page_bytes;
    kv_.push_back({Tensor(k, options_.activations, {n_blocks, K, D, kKvBlockSize}),
                   Tensor(k + page_bytes, options_.activations, {n_blocks, K, kKvBlockSize, D})});
  }
}

int64_t Engine::KvBlockBytes(const ModelConfig& config, const Split& split, DType activations) {
  return 2 * split.layers().size() * split.kv_heads().size() * config.head_dim * kKvBlockSize *
         static_cast<int64_t>(SizeOf(activations));
}

WorldOptions Engine::Traffic(const ModelConfig& config, const Split& split, const StepSize& largest,
                             DType activations) {
  const int64_t n_tokens = RoundUp(largest.n_tokens, split.tp());
  const int64_t elements = n_tokens * config.hidden;
  const std::vector<int>& n_parts = split.group_sum().n_parts;
  const int most_parts = *std::max_element(n_parts.begin(), n_parts.end());
  WorldOptions options;
  options.max_parts_bytes = static_cast<size_t>(most_parts * elements) * sizeof(float);
  options.max_tensor_bytes = std::max(static_cast<size_t>(elements) * SizeOf(activations),
                                      Sampler::GatherBytes(split, largest.n_rows));
  return options;
}

// One row of every sequence, and an id wanted of each.
bool Engine::CanReplay(const StepPlan& plan) const {
  if (!asynchronous_ || !mesh_.on_stream() || !plan.dropout.empty()) return false;
  const int64_t n = plan.n_tokens();
  if (plan.n_sequences() != n || static_cast<int64_t>(plan.samples.size()) != n) return false;
  for (size_t i = 0; i < plan.samples.size(); ++i) {
    if (plan.samples[i].row != static_cast<int32_t>(i)) return false;
  }
  return true;
}

Engine::Shape Engine::ShapeOf(const StepPlan& plan, bool replay) const {
  Shape shape = {.n_tokens = plan.n_tokens(),
                 .n_sequences = plan.n_sequences(),
                 .n_rows = static_cast<int64_t>(plan.samples.size()),
                 .max_blocks = plan.max_blocks};
  for (size_t s = 0; s < plan.kv_lens.size(); ++s) {
    shape.max_rows = std::max<int64_t>(shape.max_rows, plan.q_starts[s + 1] - plan.q_starts[s]);
    shape.max_kv_len = std::max<int64_t>(shape.max_kv_len, plan.kv_lens[s]);
  }
  if (replay) {
    shape.n_tokens = std::min(PaddedRows(shape.n_tokens), options_.largest.n_rows);
    shape.n_sequences = shape.n_rows = shape.n_tokens;
    shape.max_kv_len = std::min(PaddedKvLen(shape.max_kv_len), int64_t{options_.context_length});
    shape.max_blocks = RoundUp(shape.max_kv_len, kKvBlockSize) / kKvBlockSize;
  }
  shape.n_tokens = RoundUp(shape.n_tokens, mesh_.sp());
  return shape;
}

// Inputs lie at the beginning of the arena as in inputs_, so that one copy brings them all.
ModelStep Engine::Prepare(const StepPlan& plan, const Shape& shape, Tensor* rows) {
  Arena& arena = arenas_.step;
  arena.Reset();
  CHECK_LE(plan.n_tokens(), options_.largest.n_tokens);
  ModelStep step{.mesh = mesh_, .arenas = arenas_, .activations = options_.activations};
  const int64_t T = shape.n_tokens, S = shape.n_sequences, half_dim = rope_.half_dim();
  step.ids = arena.New(DType::kI32, {T});
  step.slots = arena.New(DType::kI32, {T});
  step.cos = arena.New(DType::kF32, {T, half_dim});
  step.sin = arena.New(DType::kF32, {T, half_dim});
  step.attention.q_starts = arena.New(DType::kI32, {S + 1});
  step.attention.kv_lens = arena.New(DType::kI32, {S});
  step.attention.block_table = arena.New(DType::kI32, {S, shape.max_blocks});
  *rows = arena.New(DType::kI32, {shape.n_rows});
  step.attention.max_rows = shape.max_rows;
  step.attention.max_kv_len = shape.max_kv_len;
  step.kv = kv_;

  inputs_.resize(arena.Mark());
  auto* const begin = static_cast<std::byte*>(step.ids.raw());
  const auto on_host = [&]<typename U>(Tensor tensor, U) {
    const auto at = static_cast<size_t>(static_cast<std::byte*>(tensor.raw()) - begin);
    return std::span<U>(reinterpret_cast<U*>(inputs_.data() + at),
                        static_cast<size_t>(tensor.size()));
  };
  const auto put = [&](Tensor tensor, const std::vector<int32_t>& values, int32_t padding) {
    const std::span<int32_t> to = on_host(tensor, int32_t());
    std::fill(std::copy(values.begin(), values.end(), to.begin()), to.end(), padding);
  };
  put(step.ids, plan.tokens, 0);
  put(step.slots, plan.slots, -1);
  put(step.attention.q_starts, plan.q_starts, static_cast<int32_t>(plan.n_tokens()));
  put(step.attention.kv_lens, plan.kv_lens, 0);
  const std::span<int32_t> table = on_host(step.attention.block_table, int32_t());
  std::fill(table.begin(), table.end(), -1);
  for (int64_t s = 0; s < plan.n_sequences(); ++s) {
    std::copy_n(plan.block_table.begin() + s * plan.max_blocks, plan.max_blocks,
                table.begin() + s * shape.max_blocks);
  }
  const std::span<int32_t> picked = on_host(*rows, int32_t());
  std::fill(picked.begin(), picked.end(), 0);
  for (size_t i = 0; i < plan.samples.size(); ++i) picked[i] = plan.samples[i].row;
  positions_ = plan.positions;
  positions_.resize(static_cast<size_t>(T), 0);
  rope_.Fill(positions_, on_host(step.cos, float()).data(), on_host(step.sin, float()).data());
  mesh_.ops().Upload(
      Tensor(begin, DType::kI32, {static_cast<int64_t>(inputs_.size() / sizeof(int32_t))}),
      inputs_.data());

  if (!plan.dropout.empty()) {
    dropout_ = plan.dropout;
    dropout_.resize(static_cast<size_t>(T));
    const Range residual = mesh_.ResidualRows(T);
    step.dropout = std::span(dropout_).subspan(static_cast<size_t>(residual.begin),
                                               static_cast<size_t>(residual.size()));
  }
  return step;
}

Engine::Outputs Engine::Compute(ModelStep& step, Tensor received, Tensor rows) const {
  const Split& split = mesh_.split();
  Outputs outputs = {.residual = split.first_stage() ? model_->Embed(step) : received};
  model_->Forward(step, outputs.residual);
  if (split.last_stage() && !rows.empty()) {
    outputs.logits = model_->Logits(step, outputs.residual, rows);
  }
  return outputs;
}

void Engine::Start(const StepPlan& plan) {
  CHECK_LT(n_started(), most_started());
  Ops& ops = mesh_.ops();
  const Split& split = mesh_.split();
  mesh_.BeginStep(plan.sequence_parallel);
  const bool replay = CanReplay(plan);
  const Shape shape = ShapeOf(plan, replay);
  Tensor rows;
  ModelStep step = Prepare(plan, shape, &rows);
  if (std::any_of(plan.tokens.begin(), plan.tokens.end(), [](int32_t id) { return id < 0; })) {
    CHECK_EQ(split.pp(), 1);
    ops.Feed(step.ids, drawn_);
  }
  Tensor received;
  if (!split.first_stage()) {
    received = arenas_.step.New(options_.activations,
                                {mesh_.ResidualRows(step.n_tokens()).size(), config_.hidden});
    mesh_.RecvFromPreviousStage(received);
  }
  Outputs outputs;
  if (replay) {
    const std::string key =
        StrCat(shape.n_tokens, " ", shape.n_rows, " ", shape.max_kv_len, " ", mesh_.sp());
    Outputs& same = replayed_[key];
    ops.Replay(key, [&] { same = Compute(step, received, rows); });
    outputs = same;
  } else {
    outputs = Compute(step, received, rows);
  }
  if (!split.last_stage()) mesh_.SendToNextStage(outputs.residual);

  const auto n_samples = static_cast<int64_t>(plan.samples.size());
  Sampler::Samples samples;
  if (split.last_stage() && n_samples > 0) {
    logits_ = outputs.logits.Rows(0, n_samples);
    samples = sampler_->Sample(logits_, plan.samples, plan.edits);
    drawn_ = samples.ids;
  }
  Started started{.plan_id = plan.id, .readbacks = std::move(free_readbacks_.back())};
  free_readbacks_.pop_back();
  for (const SampleRow& row : plan.samples) {
    if (row.n_top >= 0) started.n_top.push_back(row.n_top);
  }
  started.readbacks.ids->Start(samples.ids);
  started.readbacks.logprobs->Start(samples.logprobs);
  started_.push_back(std::move(started));
}

std::optional<StepResult> Engine::Finish() {
  CHECK_GT(n_started(), 0);
  Started oldest = std::move(started_.front());
  started_.pop_front();
  StepResult result{.plan_id = oldest.plan_id};
  const std::span<const std::byte> ids = oldest.readbacks.ids->Wait();
  result.ids.resize(ids.size() / sizeof(int32_t));
  if (!ids.empty()) std::memcpy(result.ids.data(), ids.data(), ids.size());
  const std::span<const std::byte> logprobs = oldest.readbacks.logprobs->Wait();
  const auto* row = reinterpret_cast<const Scored*>(logprobs.data());
  if (!logprobs.empty()) {
    for (int32_t n_top : oldest.n_top) {
      result.logprobs.insert(result.logprobs.end(), row, row + 1 + n_top);
      row += kLogprobs;
    }
  }
  free_readbacks_.push_back(std::move(oldest.readbacks));
  if (!mesh_.split().last_stage() || mesh_.split().tp_rank() != 0) return std::nullopt;
  return result;
}

std::optional<StepResult> Engine::Run(const StepPlan& plan) {
  Start(plan);
  return Finish();
}

}  // namespace trireme
