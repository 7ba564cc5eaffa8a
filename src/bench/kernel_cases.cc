#include "bench/kernel_cases.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "kernels/sum_tree.h"

namespace trireme {
namespace {

constexpr int kChunks = 32;
constexpr int64_t kMostDecodeRows = 64, kFewestPrefillRows = 64;
constexpr int64_t kMostProbedGemvRows = 16;

// Values of about the right size, cheap to make.
class RandomMatrix : public MatrixSource {
 public:
  RandomMatrix(int64_t rows, int64_t cols)
      : rows_(rows), cols_(cols), row_(static_cast<size_t>(cols + 4096)) {
    std::mt19937 random(1);
    for (uint16_t& v : row_)
      v = Bf16FromFloat((static_cast<float>(random() % 2001) - 1000) * 2e-5f);
  }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return DType::kBF16; }
  absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
    for (int64_t i = 0; i < n_rows; ++i) {
      std::memcpy(out + i * cols_ * 2, row_.data() + (row + i) * 31 % 4096,
                  static_cast<size_t>(cols_) * 2);
    }
    return absl::OkStatus();
  }

 private:
  int64_t rows_, cols_;
  std::vector<uint16_t> row_;
};

double Bytes(Tensor t) { return static_cast<double>(t.bytes()); }

}  // namespace

absl::StatusOr<std::vector<KernelCase>> KernelCases::Make() {
  const int64_t hidden = shape_.hidden, ffn = shape_.ffn;
  const int64_t q = shape_.n_heads * shape_.head_dim;
  RETURN_IF_ERROR(AddLinear("linear.qkv", QkvColumns(), hidden, false, INT64_MAX));
  RETURN_IF_ERROR(AddLinear("linear.o", hidden, q, true, INT64_MAX));
  RETURN_IF_ERROR(AddLinear("linear.up", ffn, hidden, false, INT64_MAX));
  RETURN_IF_ERROR(AddLinear("linear.gate_up", 2 * ffn, hidden, false, INT64_MAX));
  RETURN_IF_ERROR(AddLinear("linear.down", hidden, ffn, true, INT64_MAX));
  RETURN_IF_ERROR(AddLinear("linear.lm_head", shape_.vocab, hidden, false, kMostDecodeRows));
  RETURN_IF_ERROR(AddEmbed());
  AddRowVerbs();
  AddRope();
  AddAttentions();
  AddVocabulary();
  if (cases_.empty()) return InvalidArgument("no kernel's name contains '", options_.only, "'");
  return std::move(cases_);
}

bool KernelCases::Wanted(const std::string& name) const {
  return name.find(options_.only) != std::string::npos;
}

Tensor KernelCases::New(DType dtype, std::initializer_list<int64_t> shape) {
  int64_t size = 1;
  for (int64_t dim : shape) size *= dim;
  buffers_.push_back(ops_.Allocate(static_cast<size_t>(size) * SizeOf(dtype)));
  return Tensor(buffers_.back().data(), dtype, shape);
}

Tensor KernelCases::Random(DType dtype, std::initializer_list<int64_t> shape) {
  const Tensor t = New(dtype, shape);
  probe_.FillRandom(t);
  return t;
}

Tensor KernelCases::Integers(const std::vector<int32_t>& values) {
  const Tensor t = New(DType::kI32, {static_cast<int64_t>(values.size())});
  ops_.Upload(t, values.data());
  return t;
}

void KernelCases::Add(const std::string& name, int64_t rows, double bytes, double flops,
                      std::function<void(int)> call) {
  cases_.push_back({.rows = rows,
                    .bytes = bytes,
                    .flops = flops,
                    .name = name,
                    .work = {.key = StrCat("bench ", cases_.size()), .call = std::move(call)}});
}

// `row_parallel`: K in chunks, as the O and down projections are. Where Linear chooses between two
// ways, each of them, too, for few rows.
absl::Status KernelCases::AddLinear(const std::string& name, int64_t n, int64_t k,
                                    bool row_parallel, int64_t max_rows) {
  if (!Wanted(name)) return absl::OkStatus();
  WeightSpec spec = {.dtype = options_.weights};
  if (row_parallel && options_.chunks) {
    for (int i = 0; i <= kChunks; ++i) spec.col_bounds.push_back(i * k / kChunks);
    spec.merges = SumTree(kChunks).Merges({0, kChunks});
  }
  auto weights = std::make_shared<std::vector<std::unique_ptr<Weight>>>();
  for (size_t bytes = 0; bytes < std::max<size_t>(options_.cold_bytes, 1);) {
    ASSIGN_OR_RETURN(auto weight, ops_.Pack(RandomMatrix(n, k), spec));
    bytes += weight->bytes();
    weights->push_back(std::move(weight));
  }
  const auto weight = [weights](int i) -> const Weight& {
    return *(*weights)[static_cast<size_t>(i) % weights->size()];
  };
  for (int64_t t : options_.rows) {
    if (t > max_rows) continue;
    const Tensor x = Activations(t, k), y = New(options_.activations, {t, n});
    const double bytes = static_cast<double>(weight(0).bytes()) + Bytes(x) + Bytes(y);
    const double flops = 2.0 * static_cast<double>(t * n * k);
    Add(name, t, bytes, flops, [=, this](int i) { ops_.Linear(y, x, weight(i)); });
    CudaProbe* cuda = probe_.cuda();
    if (cuda == nullptr || options_.chunks || t > kMostProbedGemvRows) continue;
    Add(name + ".gemv", t, bytes, flops, [=](int i) { cuda->Gemv(y, x, weight(i)); });
    if (!cuda->Gemm(y, x, weight(0))) continue;
    Add(name + ".gemm", t, bytes, flops, [=](int i) { cuda->Gemm(y, x, weight(i)); });
  }
  return absl::OkStatus();
}

absl::Status KernelCases::AddEmbed() {
  if (!Wanted("embed")) return absl::OkStatus();
  ASSIGN_OR_RETURN(auto packed, ops_.Pack(RandomMatrix(shape_.vocab, shape_.hidden),
                                          {.dtype = options_.weights}));
  const std::shared_ptr<Weight> weight = std::move(packed);
  for (int64_t t : options_.rows) {
    const Tensor y = Activations(t, shape_.hidden);
    std::vector<int32_t> rows;
    for (int64_t i = 0; i < t; ++i) rows.push_back(static_cast<int32_t>(i * 7919 % shape_.vocab));
    const Tensor ids = Integers(rows);
    Add("embed", t,
        Bytes(y) +
            static_cast<double>(t * shape_.hidden) * static_cast<double>(SizeOf(options_.weights)),
        0, [=, this](int) { ops_.Embed(y, ids, *weight, 0); });
  }
  return absl::OkStatus();
}

// The activations of a few rows lie in a cache, as they do in a step.
void KernelCases::AddRowVerbs() {
  const int64_t hidden = shape_.hidden, ffn = shape_.ffn;
  for (int64_t t : options_.rows) {
    const Tensor x = Activations(t, hidden), r = Activations(t, hidden), y = Activations(t, hidden);
    if (Wanted("add_rms_norm")) {
      const Tensor w = Random(DType::kF32, {hidden});
      Add("add_rms_norm", t, 4 * Bytes(x), 0,
          [=, this](int) { ops_.AddRmsNorm(y, r, x, w, 1e-5f); });
    }
    if (Wanted("gated_silu")) {
      const Tensor gate_up = Activations(t, 2 * ffn), act = Activations(t, ffn);
      Add("gated_silu", t, Bytes(gate_up) + Bytes(act), 0,
          [=, this](int) { ops_.GatedAct(act, gate_up, Activation::kSilu); });
    }
    if (Wanted("sum_parts_2")) {
      const Tensor a = Random(DType::kF32, {t, hidden}), b = Random(DType::kF32, {t, hidden});
      Add("sum_parts_2", t, Bytes(y) + 2 * Bytes(a), 0, [=, this](int) {
        const float* parts[] = {a.f32(), b.f32()};
        const uint8_t merges[] = {0, 1};
        ops_.SumParts(y, parts, merges, nullptr);
      });
    }
  }
}

void KernelCases::AddRope() {
  if (!Wanted("rope_store_kv")) return;
  const int64_t K = shape_.n_kv_heads, D = shape_.head_dim;
  const HeadMap heads = {shape_.n_heads, K, shape_.group(), 0};
  for (int64_t t : options_.rows) {
    const int64_t blocks = (t + kKvBlockSize - 1) / kKvBlockSize;
    const KvLayer kv = {New(options_.activations, {blocks, K, D, kKvBlockSize}),
                        New(options_.activations, {blocks, K, kKvBlockSize, D})};
    const Tensor qkv = Activations(t, QkvColumns()), q = Activations(t, shape_.n_heads * D);
    const Tensor cos = Random(DType::kF32, {t, D / 2}), sin = Random(DType::kF32, {t, D / 2});
    std::vector<int32_t> places;
    for (int64_t i = 0; i < t; ++i) places.push_back(static_cast<int32_t>(i));
    const Tensor slots = Integers(places);
    Add("rope_store_kv", t, 2 * Bytes(qkv) + 2 * Bytes(cos), 0,
        [=, this](int) { ops_.RopeStoreKv(q, kv, qkv, cos, sin, slots, heads); });
  }
}

// The last `rows` of `length` tokens of each sequence. Calls read other pages than the one before.
void KernelCases::AddAttention(const std::string& name, int64_t n_sequences, int64_t rows,
                               int64_t length) {
  const int64_t N = shape_.n_heads, D = shape_.head_dim;
  const HeadMap heads = {N, shape_.n_kv_heads, shape_.group(), 0};
  const int64_t n_rows = n_sequences * rows;
  const Tensor q = Activations(n_rows, N * D), y = New(options_.activations, {n_rows, N * D});
  const int64_t blocks = (length + kKvBlockSize - 1) / kKvBlockSize;
  const int64_t needed = n_sequences * blocks, n_blocks = kv_.v.dim(0);
  std::vector<AttentionPlan> plans;
  for (int64_t first = 0; first + needed <= n_blocks && plans.size() < 64; first += needed) {
    std::vector<int32_t> starts, table;
    for (int64_t s = 0; s <= n_sequences; ++s) starts.push_back(static_cast<int32_t>(s * rows));
    for (int64_t b = 0; b < needed; ++b) table.push_back(static_cast<int32_t>(first + b));
    const std::vector<int32_t> lengths(static_cast<size_t>(n_sequences),
                                       static_cast<int32_t>(length));
    plans.push_back({.q_starts = Integers(starts),
                     .kv_lens = Integers(lengths),
                     .block_table = Integers(table).As({n_sequences, blocks}),
                     .max_rows = rows,
                     .max_kv_len = length});
  }
  // pairs of (query, key) that see each other: two products of D each
  const double pairs = static_cast<double>(n_rows) *
                       (static_cast<double>(length) - 0.5 * static_cast<double>(rows - 1));
  const double page = Bytes(kv_.k.Rows(0, 1)) + Bytes(kv_.v.Rows(0, 1));
  const float scale = 1 / std::sqrt(static_cast<float>(D));
  Add(name, n_rows, static_cast<double>(needed) * page, 4.0 * pairs * static_cast<double>(N * D),
      [=, this](int i) {
        ops_.Attention(y, q, kv_, plans[static_cast<size_t>(i) % plans.size()], scale, heads);
      });
  cases_.back().context = length;
}

// Decode: T sequences with a context each. Prefill: T tokens of one new sequence.
void KernelCases::AddAttentions() {
  struct Shape {
    std::string name;
    int64_t n_sequences, rows, length;
    int64_t blocks() const { return n_sequences * ((length + kKvBlockSize - 1) / kKvBlockSize); }
  };
  std::vector<Shape> shapes;
  for (int64_t t : options_.rows) {
    for (int64_t context : options_.contexts) {
      if (t <= kMostDecodeRows) shapes.push_back({"attention.decode", t, 1, context});
    }
  }
  for (int64_t t : options_.rows) {
    if (t >= kFewestPrefillRows) shapes.push_back({"attention.prefill", 1, t, t});
  }
  std::erase_if(shapes, [&](const Shape& s) { return !Wanted(s.name); });
  if (shapes.empty()) return;
  const int64_t K = shape_.n_kv_heads, D = shape_.head_dim;
  const int64_t block_bytes =
      2 * K * D * kKvBlockSize * static_cast<int64_t>(SizeOf(options_.activations));
  int64_t n_blocks = static_cast<int64_t>(options_.cold_bytes) / block_bytes;
  for (const Shape& s : shapes) n_blocks = std::max(n_blocks, s.blocks());
  kv_ = {Random(options_.activations, {n_blocks, K, D, kKvBlockSize}),
         Random(options_.activations, {n_blocks, K, kKvBlockSize, D})};
  for (const Shape& s : shapes) AddAttention(s.name, s.n_sequences, s.rows, s.length);
}

// What the host gives with a call is uploaded in it: not to be replayed.
void KernelCases::AddVocabulary() {
  constexpr int64_t kRows = 16;
  const int64_t V = shape_.vocab;
  std::vector<float> values;
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 3);
  for (int64_t i = 0; i < kRows * V; ++i) values.push_back(normal(random));
  const Tensor logits = New(DType::kF32, {kRows, V});
  ops_.Upload(logits, values.data());
  for (int64_t t : {int64_t{1}, kRows}) {
    const Tensor rows = logits.Rows(0, t), best = New(DType::kI32, {t, 2});
    for (const bool greedy : {true, false}) {
      const std::string name = greedy ? "sample.greedy" : "sample.draw";
      if (!Wanted(name)) continue;
      Add(name, t, Bytes(rows), 0, [=, this](int i) {
        const std::vector<Draw> draws(static_cast<size_t>(t),
                                      {greedy ? HUGE_VALF : 1.0f, 7, 0, static_cast<uint32_t>(i)});
        ops_.DrawBest(best, rows, draws, Tensor(), 0);
      });
      cases_.back().work.replays = false;
    }
  }
  const Tensor lasts = New(DType::kI32, {1, 2});
  const auto add_cutoff = [&](const std::string& name, const Filter& filter) {
    if (!Wanted(name)) return;
    Add(name, 1, Bytes(logits.Rows(0, 1)), 0, [=, this](int) {
      ops_.FindCutoffs(lasts, logits.Rows(0, 1).As({1, 1, V}), std::vector<int64_t>{0, V},
                       {&filter, 1});
    });
    cases_.back().work.replays = false;
  };
  add_cutoff("cutoff.top_k", {.top_k = 50});
  add_cutoff("cutoff.top_p", {.top_p = 0.9f});
  add_cutoff("cutoff.top_p_flat", {.top_p = 0.9f, .inverse_temperature = 0.01f});
  const Tensor logprobs = New(DType::kI32, {kRows, kLogprobs, 2}),
               drawn = New(DType::kI32, {kRows});
  for (const int32_t n_top : {0, kMostTopLogprobs}) {
    const std::string name = StrCat("logprobs.", n_top);
    if (!Wanted(name)) continue;
    std::vector<LogprobRow> wanted;
    for (int32_t i = 0; i < kRows; ++i) wanted.push_back({.row = i, .n_top = n_top});
    Add(name, kRows, Bytes(logits), 0, [=, this](int) {
      ops_.Logprobs(logprobs, logits.As({1, kRows, V}), std::vector<int64_t>{0, V}, drawn, wanted);
    });
    cases_.back().work.replays = false;
  }
}

}  // namespace trireme
