#include "runtime/models/llama.h"

#include <cmath>
#include <cstring>

#include "parallel/sharded_linear.h"
#include "parallel/sharded_vocab.h"

namespace trireme {
namespace {

constexpr char kEmbedding[] = "model.embed_tokens";
constexpr char kHead[] = "lm_head";
constexpr char kFinalNorm[] = "model.norm.weight";

std::string LayerName(int64_t layer, std::string_view name) {
  return StrCat("model.layers.", layer, ".", name);
}

// A float32 vector on the device.
class DeviceVector {
 public:
  static absl::StatusOr<DeviceVector> Load(const TensorStore& store, Ops& ops,
                                           const std::string& name, int64_t n) {
    ASSIGN_OR_RETURN(const std::vector<float> values, store.Vector(name, {0, n}));
    DeviceVector vector;
    vector.buffer_ = ops.Allocate(values.size() * sizeof(float));
    vector.n_ = n;
    ops.Upload(vector.tensor(), values.data());
    return vector;
  }
  Tensor tensor() const { return Tensor(buffer_.data(), DType::kF32, {n_}); }

 private:
  Buffer buffer_;
  int64_t n_ = 0;
};

struct Layer {
  DeviceVector attention_norm, mlp_norm;
  ColumnParallel qkv, gate_up;
  RowParallel o, down;

  int64_t bytes() const {
    return static_cast<int64_t>(qkv.weight().bytes() + o.weight().bytes() +
                                gate_up.weight().bytes() + down.weight().bytes());
  }
};

int64_t LayerBytes(const ModelConfig& config, const Split& split, DType dtype) {
  const int64_t heads = split.heads().size() + split.kv_heads().size();  // each read and written
  return (2 * heads * config.head_dim + 3 * split.ffn().size()) * config.hidden *
         static_cast<int64_t>(SizeOf(dtype));
}
int64_t VocabBytes(const ModelConfig& config, const Split& split, DType dtype) {
  return split.vocab().size() * config.hidden * static_cast<int64_t>(SizeOf(dtype));
}
// Not the embedding's matrix, used again.
bool HasOwnHead(const ModelConfig& config, const Split& split) {
  return split.last_stage() && !(config.tied_embeddings && split.first_stage());
}

class Llama : public Model {
 public:
  Llama(const ModelConfig& config, const Split& split) : config_(config), split_(split) {}

  absl::Status Load(const TensorStore& store, Ops& ops, DType dtype, const LoadProgress& progress);

  Tensor Embed(ModelStep& step) const override;
  void Forward(ModelStep& step, Tensor residual) const override;
  Tensor Logits(ModelStep& step, Tensor residual, Tensor rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  absl::StatusOr<Layer> LoadLayer(const TensorStore& store, Ops& ops, DType dtype, int64_t layer);
  Tensor Attention(ModelStep& step, const Layer& layer, const KvLayer& kv, Tensor x) const;
  Tensor Mlp(ModelStep& step, const Layer& layer, Tensor x) const;
  void Drop(ModelStep& step, Tensor x, int64_t site) const;

  ModelConfig config_;
  Split split_;
  std::vector<Layer> layers_;
  DeviceVector final_norm_;
  std::unique_ptr<ShardedVocab> embedding_;  // first stage
  std::unique_ptr<ShardedVocab> own_head_;   // last stage, unless tied to the embedding there
  const ShardedVocab* head_ = nullptr;
  int64_t weight_bytes_ = 0;
};

absl::Status Llama::Load(const TensorStore& store, Ops& ops, DType dtype,
                         const LoadProgress& progress) {
  const int64_t total = LlamaWeightBytes(config_, split_, dtype);
  const int64_t layer_bytes = LayerBytes(config_, split_, dtype);
  const int64_t vocab_bytes = VocabBytes(config_, split_, dtype);
  const bool own_head = HasOwnHead(config_, split_);
  int64_t done = 0;
  auto loaded = [&](int64_t bytes, int64_t packed_bytes) {
    done += bytes;
    weight_bytes_ += packed_bytes;
    if (progress) progress(done, total);
  };
  if (split_.first_stage()) {
    ASSIGN_OR_RETURN(auto vocab,
                     ShardedVocab::Load(store, ops, split_, dtype, kEmbedding, config_.hidden));
    embedding_ = std::make_unique<ShardedVocab>(std::move(vocab));
    loaded(vocab_bytes, static_cast<int64_t>(embedding_->weight().bytes()));
  }
  for (int64_t i = split_.layers().begin; i < split_.layers().end; ++i) {
    ASSIGN_OR_RETURN(Layer layer, LoadLayer(store, ops, dtype, i));
    layers_.push_back(std::move(layer));
    loaded(layer_bytes, layers_.back().bytes());
  }
  if (split_.last_stage()) {
    ASSIGN_OR_RETURN(final_norm_, DeviceVector::Load(store, ops, kFinalNorm, config_.hidden));
    if (!own_head) {
      head_ = embedding_.get();
    } else {
      const char* name = config_.tied_embeddings ? kEmbedding : kHead;
      ASSIGN_OR_RETURN(auto vocab,
                       ShardedVocab::Load(store, ops, split_, dtype, name, config_.hidden));
      own_head_ = std::make_unique<ShardedVocab>(std::move(vocab));
      head_ = own_head_.get();
      loaded(vocab_bytes, static_cast<int64_t>(head_->weight().bytes()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Layer> Llama::LoadLayer(const TensorStore& store, Ops& ops, DType dtype,
                                       int64_t layer) {
  const int64_t D = config_.head_dim, H = config_.hidden;
  auto scaled = [D](Range heads) { return Range{heads.begin * D, heads.end * D}; };
  const Range q = scaled(split_.heads()), kv = scaled(split_.kv_heads()), ffn = split_.ffn();
  auto name = [layer](std::string_view suffix) { return LayerName(layer, suffix); };

  Layer l;
  ASSIGN_OR_RETURN(l.attention_norm,
                   DeviceVector::Load(store, ops, name("input_layernorm.weight"), H));
  ASSIGN_OR_RETURN(l.mlp_norm,
                   DeviceVector::Load(store, ops, name("post_attention_layernorm.weight"), H));
  ASSIGN_OR_RETURN(l.qkv, ColumnParallel::Load(store, ops, dtype,
                                               {{name("self_attn.q_proj"), q},
                                                {name("self_attn.k_proj"), kv},
                                                {name("self_attn.v_proj"), kv}},
                                               H, config_.attention_bias));
  ASSIGN_OR_RETURN(l.o, RowParallel::Load(store, ops, split_, dtype, name("self_attn.o_proj"), H, q,
                                          split_.HeadBounds(D), config_.attention_bias));
  ASSIGN_OR_RETURN(
      l.gate_up, ColumnParallel::Load(store, ops, dtype,
                                      {{name("mlp.gate_proj"), ffn}, {name("mlp.up_proj"), ffn}}, H,
                                      config_.mlp_bias));
  ASSIGN_OR_RETURN(l.down, RowParallel::Load(store, ops, split_, dtype, name("mlp.down_proj"), H,
                                             ffn, split_.FfnBounds(), config_.mlp_bias));
  return l;
}

// Places where dropout acts, numbered over the whole model: 0 after the embedding, then two a
// layer.
void Llama::Drop(ModelStep& step, Tensor x, int64_t site) const {
  if (!step.dropout.empty()) step.mesh.ops().Dropout(x, step.dropout, static_cast<int32_t>(site));
}

Tensor Llama::Embed(ModelStep& step) const {
  Arena& arena = step.arenas.step;
  Tensor x = step.mesh.Leave(arena, embedding_->Embed(step.mesh, arena, step.ids, step.activations),
                             step.activations);
  Drop(step, x, 0);
  return x;  // [T/sp,H]
}

void Llama::Forward(ModelStep& step, Tensor residual) const {
  Ops& ops = step.mesh.ops();
  StepArenas& arenas = step.arenas;
  const int64_t rows = residual.dim(0), H = config_.hidden;
  Tensor mlp_out;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& l = layers_[i];
    const int64_t site = 1 + 2 * (split_.layers().begin + static_cast<int64_t>(i));

    arenas.attention.Reset();
    Tensor x = arenas.attention.New(step.activations, {rows, H});
    if (i == 0) {
      ops.RmsNorm(x, residual, l.attention_norm.tensor(), config_.rms_norm_eps);
    } else {
      ops.AddRmsNorm(x, residual, mlp_out, l.attention_norm.tensor(), config_.rms_norm_eps);
    }
    Tensor attention_out = Attention(step, l, step.kv[i], x);  // [T/sp,H]
    Drop(step, attention_out, site);

    arenas.mlp.Reset();
    Tensor y = arenas.mlp.New(step.activations, {rows, H});
    ops.AddRmsNorm(y, residual, attention_out, l.mlp_norm.tensor(), config_.rms_norm_eps);
    mlp_out = Mlp(step, l, y);  // [T/sp,H]
    Drop(step, mlp_out, site + 1);
  }
  ops.Add(residual, mlp_out);
}

Tensor Llama::Attention(ModelStep& step, const Layer& l, const KvLayer& kv, Tensor x) const {
  Mesh& mesh = step.mesh;
  Ops& ops = mesh.ops();
  Arena& arena = step.arenas.attention;
  const HeadMap heads = split_.head_map();
  const int64_t q_dim = heads.n_heads * config_.head_dim;

  Tensor h = mesh.Enter(arena, x);                                   // [T,H]
  Tensor qkv = l.qkv.Run(ops, arena, h, step.activations);           // [T,(N+2K)*D]
  Tensor q = arena.New(step.activations, {step.n_tokens(), q_dim});  // [T,N*D]
  ops.RopeStoreKv(q, kv, qkv, step.cos, step.sin, step.slots, heads);
  Tensor a = arena.New(step.activations, {step.n_tokens(), q_dim});
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  AttentionPlan plan = step.attention;
  plan.window = config_.window;
  ops.Attention(a, q, kv, plan, scale, heads);
  return mesh.Leave(arena, l.o.Run(mesh, arena, a, step.activations), step.activations);
}

Tensor Llama::Mlp(ModelStep& step, const Layer& l, Tensor x) const {
  Mesh& mesh = step.mesh;
  Ops& ops = mesh.ops();
  Arena& arena = step.arenas.mlp;
  Tensor h = mesh.Enter(arena, x);                                  // [T,H]
  Tensor gate_up = l.gate_up.Run(ops, arena, h, step.activations);  // [T,2F]
  Tensor act = arena.New(step.activations, {step.n_tokens(), split_.ffn().size()});
  ops.GatedAct(act, gate_up, config_.activation);  // [T,F]
  return mesh.Leave(arena, l.down.Run(mesh, arena, act, step.activations), step.activations);
}

Tensor Llama::Logits(ModelStep& step, Tensor residual, Tensor rows) const {
  Mesh& mesh = step.mesh;
  Arena& arena = step.arenas.step;
  step.arenas.mlp.Reset();
  Tensor y = step.arenas.mlp.New(step.activations, {residual.dim(0), config_.hidden});
  mesh.ops().RmsNorm(y, residual, final_norm_.tensor(), config_.rms_norm_eps);
  Tensor h = mesh.Enter(step.arenas.mlp, y);  // [T,H]
  Tensor picked = arena.New(step.activations, {rows.dim(0), config_.hidden});
  mesh.ops().GatherRows(picked, h, rows);
  return head_->Logits(mesh, arena, picked);
}

}  // namespace

std::vector<TensorSpec> LlamaTensors(const ModelConfig& c) {
  const int64_t q = c.n_heads * c.head_dim, kv = c.n_kv_heads * c.head_dim;
  std::vector<TensorSpec> tensors;
  tensors.push_back({StrCat(kEmbedding, ".weight"), {c.vocab, c.hidden}});
  for (int64_t i = 0; i < c.n_layers; ++i) {
    auto matrix = [&](std::string_view name, int64_t rows, int64_t cols, bool bias) {
      tensors.push_back({LayerName(i, StrCat(name, ".weight")), {rows, cols}});
      if (bias) tensors.push_back({LayerName(i, StrCat(name, ".bias")), {rows}});
    };
    tensors.push_back({LayerName(i, "input_layernorm.weight"), {c.hidden}});
    tensors.push_back({LayerName(i, "post_attention_layernorm.weight"), {c.hidden}});
    matrix("self_attn.q_proj", q, c.hidden, c.attention_bias);
    matrix("self_attn.k_proj", kv, c.hidden, c.attention_bias);
    matrix("self_attn.v_proj", kv, c.hidden, c.attention_bias);
    matrix("self_attn.o_proj", c.hidden, q, c.attention_bias);
    matrix("mlp.gate_proj", c.ffn, c.hidden, c.mlp_bias);
    matrix("mlp.up_proj", c.ffn, c.hidden, c.mlp_bias);
    matrix("mlp.down_proj", c.hidden, c.ffn, c.mlp_bias);
  }
  tensors.push_back({kFinalNorm, {c.hidden}});
  if (!c.tied_embeddings) tensors.push_back({StrCat(kHead, ".weight"), {c.vocab, c.hidden}});
  return tensors;
}

int64_t LlamaWeightBytes(const ModelConfig& config, const Split& split, DType dtype) {
  return LayerBytes(config, split, dtype) * split.layers().size() +
         VocabBytes(config, split, dtype) *
             (int64_t{split.first_stage()} + int64_t{HasOwnHead(config, split)});
}

ArenaBytes LlamaArenas(const ModelConfig& config, const Split& split, const StepSize& largest,
                       DType activations) {
  const size_t T = static_cast<size_t>(largest.n_tokens), S = static_cast<size_t>(largest.n_rows);
  const size_t H = static_cast<size_t>(config.hidden), D = static_cast<size_t>(config.head_dim);
  const HeadMap heads = split.head_map();
  const size_t N = static_cast<size_t>(heads.n_heads), K = static_cast<size_t>(heads.n_kv_heads);
  const size_t F = static_cast<size_t>(split.ffn().size());
  const size_t V = static_cast<size_t>(split.vocab().size());
  const size_t e = SizeOf(activations);
  constexpr size_t kSlack = 16 * Arena::kAlignment;
  return {
      .step = T * (2 * H * e + 8 * sizeof(float) + D * sizeof(float)) + S * (H * e + V * 4 + 64) +
              kSlack,
      .attention = T * (3 * H + 3 * N * D + 2 * K * D) * e + kSlack,
      .mlp = T * (3 * H + 3 * F) * e + kSlack,
  };
}

absl::StatusOr<std::unique_ptr<Model>> LoadLlama(const ModelConfig& config,
                                                 const TensorStore& store, Ops& ops,
                                                 const Split& split, const ModelOptions& options,
                                                 const LoadProgress& progress) {
  auto model = std::make_unique<Llama>(config, split);
  RETURN_IF_ERROR(model->Load(store, ops, options.dtype, progress));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace trireme
