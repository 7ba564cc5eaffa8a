#include "runtime/engine.h"

#include <algorithm>

namespace trireme {
namespace {

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

Engine::Engine(const ModelConfig& config, std::unique_ptr<Model> model, Mesh& mesh,
               const EngineOptions& options)
    : config_(config), model_(std::move(model)), mesh_(mesh), options_(options), rope_(config) {
  Ops& ops = mesh.ops();
  const Split& split = mesh.split();
  const int64_t K = split.kv_heads().size(), D = config.head_dim;
  const int64_t page_bytes =
      options.n_blocks * K * D * kKvBlockSize * static_cast<int64_t>(SizeOf(options.activations));
  kv_pages_ = ops.Allocate(static_cast<size_t>(2 * page_bytes * split.layers().size()));
  for (int64_t i = 0; i < split.layers().size(); ++i) {
    std::byte* k = kv_pages_.data() + 2 * i * page_bytes;
    kv_.push_back(
        {Tensor(k, options.activations, {options.n_blocks, K, D, kKvBlockSize}),
         Tensor(k + page_bytes, options.activations, {options.n_blocks, K, kKvBlockSize, D})});
  }

  StepSize largest = options.largest;
  largest.n_tokens = RoundUp(largest.n_tokens, split.tp());
  const Model::ArenaBytes bytes = model_->Arenas(largest, options.activations);
  const int64_t max_blocks = RoundUp(options.context_length, kKvBlockSize) / kKvBlockSize;
  const int64_t plan_bytes = (largest.n_rows * (max_blocks + 4) + 64) * 4;
  arenas_.step = Arena(ops.Allocate(bytes.step + static_cast<size_t>(plan_bytes)));
  arenas_.attention = Arena(ops.Allocate(bytes.attention));
  arenas_.mlp = Arena(ops.Allocate(bytes.mlp));
  if (split.last_stage()) sampler_ = std::make_unique<Sampler>(mesh, largest.n_rows);
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

ModelStep Engine::Prepare(const StepPlan& plan) {
  Ops& ops = mesh_.ops();
  Arena& arena = arenas_.step;
  arena.Reset();
  mesh_.BeginStep(plan.sequence_parallel);
  const int64_t T = RoundUp(plan.n_tokens(), mesh_.sp()), S = plan.n_sequences();
  CHECK_LE(plan.n_tokens(), options_.largest.n_tokens);

  padded_ids_ = plan.tokens;
  padded_ids_.resize(static_cast<size_t>(T), 0);
  padded_slots_ = plan.slots;
  padded_slots_.resize(static_cast<size_t>(T), -1);
  padded_positions_ = plan.positions;
  padded_positions_.resize(static_cast<size_t>(T), 0);
  cos_.resize(static_cast<size_t>(T * rope_.half_dim()));
  sin_.resize(cos_.size());
  rope_.Fill(padded_positions_, cos_.data(), sin_.data());

  auto upload = [&](DType dtype, std::initializer_list<int64_t> shape, const void* from) {
    Tensor tensor = arena.New(dtype, shape);
    ops.Upload(tensor, from);
    return tensor;
  };
  ModelStep step{.mesh = mesh_, .arenas = arenas_, .activations = options_.activations};
  step.ids = upload(DType::kI32, {T}, padded_ids_.data());
  step.slots = upload(DType::kI32, {T}, padded_slots_.data());
  step.cos = upload(DType::kF32, {T, rope_.half_dim()}, cos_.data());
  step.sin = upload(DType::kF32, {T, rope_.half_dim()}, sin_.data());
  for (size_t s = 0; s < static_cast<size_t>(S); ++s) {
    step.attention.max_rows =
        std::max<int64_t>(step.attention.max_rows, plan.q_starts[s + 1] - plan.q_starts[s]);
    step.attention.max_kv_len = std::max<int64_t>(step.attention.max_kv_len, plan.kv_lens[s]);
  }
  step.attention.q_starts = upload(DType::kI32, {S + 1}, plan.q_starts.data());
  step.attention.kv_lens = upload(DType::kI32, {S}, plan.kv_lens.data());
  step.attention.block_table = upload(DType::kI32, {S, plan.max_blocks}, plan.block_table.data());
  step.kv = kv_;
  if (!plan.dropout.empty()) {
    dropout_ = plan.dropout;
    dropout_.resize(static_cast<size_t>(T));
    const Range rows = mesh_.ResidualRows(T);
    step.dropout = std::span(dropout_).subspan(static_cast<size_t>(rows.begin),
                                               static_cast<size_t>(rows.size()));
  }
  return step;
}

std::optional<StepResult> Engine::Run(const StepPlan& plan) {
  ModelStep step = Prepare(plan);
  const Split& split = mesh_.split();
  Tensor residual;
  if (split.first_stage()) {
    residual = model_->Embed(step);
  } else {
    residual = arenas_.step.New(options_.activations,
                                {mesh_.ResidualRows(step.n_tokens()).size(), config_.hidden});
    mesh_.RecvFromPreviousStage(residual);
  }
  model_->Forward(step, residual);
  if (!split.last_stage()) {
    mesh_.SendToNextStage(residual);
    return std::nullopt;
  }
  StepResult result{.plan_id = plan.id};
  if (!plan.samples.empty()) {
    rows_.clear();
    for (const SampleRow& sample : plan.samples) rows_.push_back(sample.row);
    Tensor rows = arenas_.step.New(DType::kI32, {static_cast<int64_t>(rows_.size())});
    mesh_.ops().Upload(rows, rows_.data());
    logits_ = model_->Logits(step, residual, rows);
    mesh_.ops().Synchronize();
    result.ids = sampler_->Sample(logits_, plan.samples);
  }
  if (split.tp_rank() != 0) return std::nullopt;
  return result;
}

}  // namespace trireme
