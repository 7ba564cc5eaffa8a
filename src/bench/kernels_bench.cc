#include "bench/kernels_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <iomanip>
#include <memory>
#include <ostream>
#include <random>

#include "base/file.h"
#include "bench/machine_probe.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/sum_tree.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

// TinyLlama 1.1B.
constexpr int64_t kHidden = 2048, kHeads = 32, kKvHeads = 4, kHeadSize = 64, kFfn = 5632,
                  kVocabulary = 32000;
constexpr int64_t kContext = 1024;  // tokens in the cache of a decode
constexpr size_t kColdBytes = size_t{384}
                              << 20;            // weights in turn, so that none comes from a cache
constexpr size_t kProbeBytes = kColdBytes / 4;  // read by one probe of the bandwidth
constexpr double kMinSeconds = 0.02;            // of one measurement
constexpr int kChunks = 32;

// Values of about the right size, cheap to make: the time does not depend on them.
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

struct BenchCase {
  std::string name;
  int64_t rows = 0;
  double bytes = 0;  // that have to move, from or to memory
  double flops = 0;  // 0: bandwidth alone bounds it
  std::function<void()> run;
  struct Sample {
    double seconds, of_read, of_fma, of_bound;
  };
  std::vector<Sample> samples;  // one a round

  // The median over the rounds.
  double Median(double Sample::*field) const {
    std::vector<double> values;
    for (const Sample& sample : samples) values.push_back(sample.*field);
    std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2),
                     values.end());
    return values[values.size() / 2];
  }
};

class KernelsBench {
 public:
  KernelsBench(const KernelsBenchOptions& options, std::unique_ptr<Ops> ops)
      : options_(options), ops_(std::move(ops)) {}

  absl::Status Run(std::ostream& out) {
    RETURN_IF_ERROR(
        AddLinear("linear.qkv", (kHeads + 2 * kKvHeads) * kHeadSize, kHidden, false, 512));
    RETURN_IF_ERROR(AddLinear("linear.o", kHidden, kHeads * kHeadSize, true, 512));
    RETURN_IF_ERROR(AddLinear("linear.up", kFfn, kHidden, false, 512));
    RETURN_IF_ERROR(AddLinear("linear.gate_up", 2 * kFfn, kHidden, false, 512));
    RETURN_IF_ERROR(AddLinear("linear.down", kHidden, kFfn, true, 512));
    RETURN_IF_ERROR(AddLinear("linear.lm_head", kVocabulary, kHidden, false, 64));
    RETURN_IF_ERROR(AddEmbed());
    AddRowVerbs();
    AddRope();
    AddAttention();
    AddVocabulary();
    if (cases_.empty()) return InvalidArgument("no kernel's name contains '", options_.only, "'");
    Measure();
    Print(out);
    return options_.json.empty() ? absl::OkStatus() : WriteFile(options_.json, Json());
  }

 private:
  bool Wanted(const std::string& name) const {
    return name.find(options_.only) != std::string::npos;
  }
  Tensor New(DType dtype, std::initializer_list<int64_t> shape) {
    int64_t size = 1;
    for (int64_t dim : shape) size *= dim;
    buffers_.push_back(ops_->Allocate(static_cast<size_t>(size) * SizeOf(dtype)));
    return Tensor(buffers_.back().data(), dtype, shape);
  }
  Tensor Activations(int64_t rows, int64_t cols) {
    Tensor t = New(options_.activations, {rows, cols});
    for (int64_t i = 0; i < t.size(); ++i) {
      const float value = static_cast<float>(i * 7919 % 2001 - 1000) * 1e-3f;
      if (t.dtype() == DType::kF32) {
        t.f32()[i] = value;
      } else {
        t.data<uint16_t>()[i] =
            t.dtype() == DType::kBF16 ? Bf16FromFloat(value) : F16FromFloat(value);
      }
    }
    return t;
  }
  void Add(const std::string& name, int64_t rows, double bytes, double flops,
           std::function<void()> run) {
    cases_.push_back({name, rows, bytes, flops, std::move(run)});
  }

  // `row_parallel`: K in chunks, as the O and down projections are.
  absl::Status AddLinear(const std::string& name, int64_t n, int64_t k, bool row_parallel,
                         int64_t max_rows) {
    if (!Wanted(name)) return absl::OkStatus();
    WeightSpec spec = {.dtype = options_.weights};
    if (row_parallel) {
      for (int i = 0; i <= kChunks; ++i) spec.col_bounds.push_back(i * k / kChunks);
      spec.merges = SumTree(kChunks).Merges({0, kChunks});
    }
    auto weights = std::make_shared<std::vector<std::unique_ptr<Weight>>>();
    size_t bytes = 0;
    while (bytes < kColdBytes) {
      ASSIGN_OR_RETURN(auto weight, ops_->Pack(RandomMatrix(n, k), spec));
      bytes += weight->bytes();
      weights->push_back(std::move(weight));
    }
    for (int64_t t : options_.rows) {
      if (t > max_rows) continue;
      const Tensor x = Activations(t, k), y = New(options_.activations, {t, n});
      const double moved = static_cast<double>(weights->front()->bytes() + x.bytes() + y.bytes());
      Add(name, t, moved, 2.0 * static_cast<double>(t * n * k), [=, this, i = size_t{0}]() mutable {
        ops_->Linear(y, x, *(*weights)[i++ % weights->size()]);
      });
    }
    return absl::OkStatus();
  }

  void AddRowVerbs() {
    for (int64_t t : options_.rows) {
      const Tensor x = Activations(t, kHidden), r = Activations(t, kHidden),
                   y = Activations(t, kHidden);
      const Tensor w = New(DType::kF32, {kHidden});
      const auto size = static_cast<double>(x.bytes());
      if (Wanted("add_rms_norm")) {
        Add("add_rms_norm", t, 4 * size, 0, [=, this] { ops_->AddRmsNorm(y, r, x, w, 1e-5f); });
      }
      if (Wanted("gated_silu")) {
        const Tensor gate_up = Activations(t, 2 * kFfn), act = Activations(t, kFfn);
        Add("gated_silu", t, static_cast<double>(gate_up.bytes() + act.bytes()), 0,
            [=, this] { ops_->GatedAct(act, gate_up, Activation::kSilu); });
      }
      if (Wanted("sum_parts_2")) {
        const Tensor a = New(DType::kF32, {t, kHidden}), b = New(DType::kF32, {t, kHidden});
        Add("sum_parts_2", t, size + 2.0 * static_cast<double>(a.bytes()), 0, [=, this] {
          const float* parts[] = {a.f32(), b.f32()};
          const uint8_t merges[] = {0, 1};
          ops_->SumParts(y, parts, merges, nullptr);
        });
      }
    }
  }

  absl::Status AddEmbed() {
    if (!Wanted("embed")) return absl::OkStatus();
    ASSIGN_OR_RETURN(auto packed,
                     ops_->Pack(RandomMatrix(kVocabulary, kHidden), {.dtype = options_.weights}));
    const std::shared_ptr<Weight> weight = std::move(packed);
    for (int64_t t : options_.rows) {
      const Tensor y = Activations(t, kHidden), ids = New(DType::kI32, {t});
      for (int64_t i = 0; i < t; ++i) ids.i32()[i] = static_cast<int32_t>(i * 7919 % kVocabulary);
      Add("embed", t,
          static_cast<double>(y.bytes()) +
              static_cast<double>(t * kHidden) * static_cast<double>(SizeOf(options_.weights)),
          0, [=, this] { ops_->Embed(y, ids, *weight, 0); });
    }
    return absl::OkStatus();
  }

  void AddRope() {
    if (!Wanted("rope_store_kv")) return;
    const HeadMap heads = {kHeads, kKvHeads, kHeads / kKvHeads, 0};
    for (int64_t t : options_.rows) {
      const int64_t blocks = (t + kKvBlockSize - 1) / kKvBlockSize;
      const KvLayer kv = {New(options_.activations, {blocks, kKvHeads, kHeadSize, kKvBlockSize}),
                          New(options_.activations, {blocks, kKvHeads, kKvBlockSize, kHeadSize})};
      const Tensor qkv = Activations(t, (kHeads + 2 * kKvHeads) * kHeadSize),
                   q = Activations(t, kHeads * kHeadSize);
      const Tensor cos = New(DType::kF32, {t, kHeadSize / 2}),
                   sin = New(DType::kF32, {t, kHeadSize / 2});
      const Tensor slots = New(DType::kI32, {t});
      for (int64_t i = 0; i < t; ++i) slots.i32()[i] = static_cast<int32_t>(i);
      Add("rope_store_kv", t,
          2.0 * static_cast<double>(qkv.bytes()) + 2.0 * static_cast<double>(cos.bytes()), 0,
          [=, this] { ops_->RopeStoreKv(q, kv, qkv, cos, sin, slots, heads); });
    }
  }

  // Prefill: T tokens of one new sequence. Decode: T sequences with kContext tokens each.
  void AddAttention() {
    const HeadMap heads = {kHeads, kKvHeads, kHeads / kKvHeads, 0};
    for (const bool decode : {true, false}) {
      for (int64_t t : options_.rows) {
        if ((decode && t > 64) || (!decode && t < 64)) continue;
        const std::string name = decode ? "attention.decode" : "attention.prefill";
        if (!Wanted(name)) continue;
        const int64_t sequences = decode ? t : 1, length = decode ? kContext : t;
        const int64_t blocks = (length + kKvBlockSize - 1) / kKvBlockSize;
        const KvLayer kv = {
            New(options_.activations, {sequences * blocks, kKvHeads, kHeadSize, kKvBlockSize}),
            New(options_.activations, {sequences * blocks, kKvHeads, kKvBlockSize, kHeadSize})};
        const Tensor q = Activations(t, kHeads * kHeadSize), y = Activations(t, kHeads * kHeadSize);
        AttentionPlan plan = {New(DType::kI32, {sequences + 1}), New(DType::kI32, {sequences}),
                              New(DType::kI32, {sequences, blocks})};
        for (int64_t s = 0; s <= sequences; ++s)
          plan.q_starts.i32()[s] = static_cast<int32_t>(s * t / sequences);
        for (int64_t s = 0; s < sequences; ++s)
          plan.kv_lens.i32()[s] = static_cast<int32_t>(length);
        for (int64_t b = 0; b < sequences * blocks; ++b)
          plan.block_table.i32()[b] = static_cast<int32_t>(b);
        // pairs of (query, key) that see each other: two products of D each
        const double pairs =
            decode ? static_cast<double>(t * length) : 0.5 * static_cast<double>(t * (t + 1));
        Add(name, t, static_cast<double>(kv.k.bytes() + kv.v.bytes()),
            4.0 * pairs * kHeads * kHeadSize,
            [=, this] { ops_->Attention(y, q, kv, plan, 0.125f, heads); });
      }
    }
  }

  void AddVocabulary() {
    const Tensor logits = New(DType::kF32, {16, kVocabulary});
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 3);
    for (int64_t i = 0; i < logits.size(); ++i) logits.f32()[i] = normal(random);
    for (int64_t t : {1, 16}) {
      const Tensor rows = logits.Rows(0, t), best = New(DType::kI32, {t, 2});
      const auto bytes = static_cast<double>(rows.bytes());
      for (const bool greedy : {true, false}) {
        const std::string name = greedy ? "sample.greedy" : "sample.draw";
        if (!Wanted(name)) continue;
        Add(name, t, bytes, 0, [=, this, token = uint32_t{0}]() mutable {
          const std::vector<Draw> draws(static_cast<size_t>(t),
                                        {greedy ? HUGE_VALF : 1.0f, 7, 0, token++});
          ops_->DrawBest(best, rows, draws, Tensor(), 0);
        });
      }
    }
    const Tensor lasts = New(DType::kI32, {1, 2});
    const auto add_cutoff = [&](const std::string& name, const Filter& filter) {
      if (!Wanted(name)) return;
      Add(name, 1, static_cast<double>(logits.Rows(0, 1).bytes()), 0, [=, this] {
        ops_->FindCutoffs(lasts, logits.Rows(0, 1).As({1, 1, kVocabulary}),
                          std::vector<int64_t>{0, kVocabulary}, {&filter, 1});
      });
    };
    add_cutoff("cutoff.top_k", {.top_k = 50});
    add_cutoff("cutoff.top_p", {.top_p = 0.9f});
    add_cutoff("cutoff.top_p_flat", {.top_p = 0.9f, .inverse_temperature = 0.01f});
  }

  // The bounds are probed between the cases: a shared machine changes within a run, so that a case
  // is held against the better of the probes just before and just after it.
  struct Probe {
    double bandwidth = 0, peak = 0;  // bytes and FLOP per second
  };
  Probe MeasureBounds(const Buffer& memory) {
    const std::span<const std::byte> bytes(memory.data(), memory.bytes());
    const Probe probe = {ReadBandwidth(bytes.subspan(probe_at_, kProbeBytes), options_.n_threads),
                         FmaPeak(options_.n_threads, CpuTargetName(options_.avx512) == "AVX-512")};
    probe_at_ = (probe_at_ + kProbeBytes) % memory.bytes();
    probes_.push_back(probe);
    return probe;
  }

  void Measure() {
    const Buffer memory = ops_->Allocate(kColdBytes);
    std::fill_n(memory.data(), memory.bytes(), std::byte{1});
    for (BenchCase& c : cases_) c.run();  // grows scratch memory, touches pages
    for (int round = 0; round < options_.rounds; ++round) {
      Probe before = MeasureBounds(memory);
      for (BenchCase& c : cases_) {
        const double seconds = Time(c);
        const Probe after = MeasureBounds(memory);
        const double read = c.bytes / std::max(before.bandwidth, after.bandwidth);
        const double fma = c.flops / std::max(before.peak, after.peak);
        c.samples.push_back(
            {seconds, read / seconds, fma / seconds, std::max(read, fma) / seconds});
        before = after;
      }
    }
  }

  // Seconds of one call.
  static double Time(BenchCase& c) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    for (int64_t calls = 1;; ++calls) {
      c.run();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (seconds >= kMinSeconds) return seconds / static_cast<double>(calls);
    }
  }

  double MedianProbe(double Probe::*field) const {
    std::vector<double> values;
    for (const Probe& probe : probes_) values.push_back(probe.*field);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }

  void Print(std::ostream& out) const {
    out << CpuTargetName(options_.avx512) << ", " << options_.n_threads << " threads, weights "
        << Name(options_.weights) << ", activations " << Name(options_.activations) << std::fixed
        << std::setprecision(1) << "\nread bandwidth " << MedianProbe(&Probe::bandwidth) * 1e-9
        << " GB/s, FMA peak " << MedianProbe(&Probe::peak) * 1e-9 << " GFLOP/s (medians of "
        << probes_.size() << " probes)\n";
    const auto heading = [&](const char* name, int width) { out << std::setw(width) << name; };
    out << std::left;
    heading("kernel", 20);
    out << std::right;
    heading("T", 5);
    heading("us", 12);
    for (const char* name : {"GB/s", "GFLOP/s", "of read", "of FMA", "of bound"}) heading(name, 10);
    out << "\n";
    for (const BenchCase& c : cases_) {
      const double seconds = c.Median(&BenchCase::Sample::seconds);
      out << std::left << std::setw(20) << c.name << std::right << std::setw(5) << c.rows
          << std::setw(12) << seconds * 1e6 << std::setw(10) << c.bytes / seconds * 1e-9
          << std::setw(10) << c.flops / seconds * 1e-9;
      for (auto field : {&BenchCase::Sample::of_read, &BenchCase::Sample::of_fma,
                         &BenchCase::Sample::of_bound}) {
        out << std::setw(9) << 100 * c.Median(field) << "%";
      }
      out << "\n";
    }
    out.flush();
  }

  std::string Json() const {
    nlohmann::json json = {{"target", CpuTargetName(options_.avx512)},
                           {"threads", options_.n_threads},
                           {"weights", std::string(Name(options_.weights))},
                           {"activations", std::string(Name(options_.activations))},
                           {"read_bytes_per_s", MedianProbe(&Probe::bandwidth)},
                           {"fma_flop_per_s", MedianProbe(&Probe::peak)},
                           {"kernels", nlohmann::json::array()}};
    for (const BenchCase& c : cases_) {
      json["kernels"].push_back({{"kernel", c.name},
                                 {"rows", c.rows},
                                 {"seconds", c.Median(&BenchCase::Sample::seconds)},
                                 {"bytes", c.bytes},
                                 {"flop", c.flops},
                                 {"of_bound", c.Median(&BenchCase::Sample::of_bound)}});
    }
    return json.dump(2) + "\n";
  }

  const KernelsBenchOptions& options_;
  std::unique_ptr<Ops> ops_;
  std::vector<Buffer> buffers_;
  std::vector<BenchCase> cases_;
  std::vector<Probe> probes_;
  size_t probe_at_ = 0;  // the next probe's bytes
};

}  // namespace

absl::Status RunKernelsBench(const KernelsBenchOptions& options, std::ostream& out) {
  ASSIGN_OR_RETURN(
      auto ops,
      MakeCpuOps({.n_threads = options.n_threads, .cpus = options.cpus, .avx512 = options.avx512}));
  return KernelsBench(options, std::move(ops)).Run(out);
}

}  // namespace trireme
