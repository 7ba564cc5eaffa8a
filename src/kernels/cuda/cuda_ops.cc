#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_wait.h"
#include "kernels/cuda/fault.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/pinned_ring.h"
#include "kernels/cuda/vocab.h"

namespace trireme {
namespace cuda {
namespace {

constexpr size_t kRingBytes = size_t{4} << 20;

void CheckActivation(Tensor t) { CHECK(t.dtype() != DType::kI32); }

Scored* Scores(Tensor t) { return reinterpret_cast<Scored*>(t.i32()); }

// An array on the device that a verb fills from the host or gives to it.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t n) : n_(n), buffer_(AllocateDevice(Bytes(n))) {}
  T* data() const { return reinterpret_cast<T*>(buffer_.data()); }
  // Room for n; more than it was made for is allocated anew.
  T* Get(int64_t n) {
    if (n > n_) *this = DeviceArray(std::max(n, 2 * n_));
    return data();
  }

 private:
  static size_t Bytes(int64_t n) {
    return static_cast<size_t>(std::max<int64_t>(n, 1)) * sizeof(T);
  }
  int64_t n_;
  Buffer buffer_;
};

class PinnedReadback : public Readback {
 public:
  PinnedReadback(DeviceWait& wait, size_t bytes)
      : wait_(wait), memory_(AllocatePinned(std::max<size_t>(bytes, 1))) {
    Check(cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  ~PinnedReadback() override { cudaEventDestroy(copied_); }
  void Start(Tensor from) override {
    n_ = from.empty() ? 0 : from.bytes();
    CHECK_LE(n_, memory_.bytes());
    if (n_ > 0) {
      Check(cudaMemcpyAsync(memory_.data(), from.raw(), n_, cudaMemcpyDeviceToHost, wait_.stream()),
            "cudaMemcpyAsync");
    }
    Check(cudaEventRecord(copied_, wait_.stream()), "cudaEventRecord");
  }
  std::span<const std::byte> Wait() override {
    wait_.Await(copied_, "a step");
    return {memory_.data(), n_};
  }

 private:
  DeviceWait& wait_;
  Buffer memory_;
  cudaEvent_t copied_ = nullptr;
  size_t n_ = 0;
};

// What a function enqueued.
class Graph {
 public:
  Graph() = default;
  Graph(cudaStream_t stream, const std::function<void()>& work) {
    // Other threads' calls are their own affair.
    Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    work();
    cudaGraph_t graph = nullptr;
    Check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    Check(cudaGraphInstantiate(&exec_, graph, 0), "cudaGraphInstantiate");
    Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }
  Graph(Graph&& other) noexcept { *this = std::move(other); }
  Graph& operator=(Graph&& other) noexcept {
    std::swap(exec_, other.exec_);
    return *this;
  }
  ~Graph() {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
  }
  bool recorded() const { return exec_ != nullptr; }
  void Launch(cudaStream_t stream) const {
    Check(cudaGraphLaunch(exec_, stream), "cudaGraphLaunch");
  }

 private:
  cudaGraphExec_t exec_ = nullptr;
};

class CudaOps : public Ops {
 public:
  explicit CudaOps(const CudaOptions& options)
      : options_(options),
        wait_(options.timeout),
        stream_(wait_.stream()),
        ring_(wait_, kRingBytes),
        loader_(wait_, {.n_threads = options.n_loading_threads}),
        linear_(options.exact
                    ? LinearDriver(stream_, ExactGemm::Options{.max_rows = options.max_tokens})
                    : LinearDriver(stream_, GemmLt::Options{})),
        dropout_rows_(options.max_tokens),
        draws_(options.max_rows),
        partial_(options.max_rows * kDrawSlices),
        filters_(options.max_rows),
        edits_(1024),
        logprob_rows_(options.max_rows) {}

  ~CudaOps() override { Synchronize(); }

  DeviceWait& wait() { return wait_; }

  Buffer Allocate(size_t bytes) override {
    Buffer buffer = AllocateDevice(std::max<size_t>(bytes, 1));
    Check(cudaMemsetAsync(buffer.data(), 0, buffer.bytes(), stream_), "cudaMemsetAsync");
    return buffer;
  }
  void Synchronize() override { wait_.Await("the device"); }
  void Upload(Tensor to, const void* from) override {
    if (!to.empty()) ring_.CopyToDevice(to.raw(), from, to.bytes());
  }
  void Download(void* to, Tensor from) override {
    if (!from.empty()) ToHost(to, from.raw(), from.bytes());
  }
  bool Asynchronous() const override { return true; }
  std::unique_ptr<Readback> MakeReadback(size_t bytes) override {
    return std::make_unique<PinnedReadback>(wait_, bytes);
  }
  void Replay(const std::string& key, const std::function<void()>& work) override {
    // The first time it is only run: memory that its calls keep is allocated then.
    auto [graph, is_new] = graphs_.try_emplace(key);
    if (is_new) return work();
    if (!graph->second.recorded()) graph->second = Graph(stream_, work);
    graph->second.Launch(stream_);
  }

  absl::StatusOr<std::unique_ptr<Weight>> Pack(const MatrixSource& source,
                                               const WeightSpec& spec) override {
    return loader_.Load(source, spec);
  }
  void Linear(Tensor y, Tensor x, const Weight& w) override {
    CheckActivation(x);
    linear_.Run(y, x, static_cast<const CudaWeight&>(w));
  }
  void SumParts(Tensor y, std::span<const float* const> parts, std::span<const uint8_t> merges,
                const float* bias) override {
    CheckActivation(y);
    CHECK_EQ(parts.size(), merges.size());
    CHECK_LE(parts.size(), static_cast<size_t>(kMostParts));
    PartList list{.n = static_cast<int>(parts.size())};
    std::copy(parts.begin(), parts.end(), list.parts);
    std::copy(merges.begin(), merges.end(), list.merges);
    cuda::SumParts(y, list, bias, stream_);
  }

  void Embed(Tensor y, Tensor ids, const Weight& w, int64_t first_row) override {
    CheckActivation(y);
    CHECK_EQ(y.dim(1), w.n_in());
    cuda::Embed(y, ids, static_cast<const CudaWeight&>(w).rows(), first_row, stream_);
  }
  void RmsNorm(Tensor y, Tensor x, Tensor w, float eps) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    cuda::RmsNorm(y, x, w, eps, stream_);
  }
  void AddRmsNorm(Tensor y, Tensor r, Tensor x, Tensor w, float eps) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype() && x.dtype() == r.dtype());
    cuda::AddRmsNorm(y, r, x, w, eps, stream_);
  }
  void LayerNorm(Tensor y, Tensor x, Tensor w, Tensor b, float eps) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    cuda::LayerNorm(y, x, w, b, eps, stream_);
  }
  void AddLayerNorm(Tensor y, Tensor r, Tensor x, Tensor w, Tensor b, float eps) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype() && x.dtype() == r.dtype());
    cuda::AddLayerNorm(y, r, x, w, b, eps, stream_);
  }
  void Add(Tensor r, Tensor x) override {
    CheckActivation(x);
    CHECK(x.dtype() == r.dtype());
    cuda::Add(r, x, stream_);
  }
  void Dropout(Tensor x, std::span<const DropoutRow> rows, int32_t site) override {
    CheckActivation(x);
    CHECK_EQ(static_cast<int64_t>(rows.size()), x.dim(0));
    if (rows.empty()) return;
    cuda::Dropout(x, ToDevice(dropout_rows_, rows), site, stream_);
  }
  void GatedAct(Tensor y, Tensor x, Activation act) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    CHECK_EQ(x.dim(1), 2 * y.dim(1));
    cuda::GatedAct(y, x, act, stream_);
  }
  void Act(Tensor y, Tensor x, Activation act) override {
    CheckActivation(x);
    CHECK(x.dtype() == y.dtype());
    CHECK_EQ(x.size(), y.size());
    cuda::Act(y, x, act, stream_);
  }
  void GatherRows(Tensor y, Tensor x, Tensor rows) override {
    CHECK(x.dtype() == y.dtype());
    CHECK_LE(x.dim(1), y.dim(1));
    cuda::GatherRows(y, x, rows, stream_);
  }

  void RopeStoreKv(Tensor q, KvLayer kv, Tensor qkv, Tensor cos, Tensor sin, Tensor slots,
                   const HeadMap& heads) override {
    CheckActivation(q);
    CHECK(q.dtype() == qkv.dtype());
    cuda::RopeStoreKv(q, Pages(kv), qkv, cos, sin, slots, heads, stream_);
  }
  void Attention(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan, float scale,
                 const HeadMap& heads) override {
    CheckActivation(q);
    CHECK(q.dtype() == y.dtype());
    const AttentionShape shape = {.n_sequences = plan.kv_lens.dim(0),
                                  .n_tokens = q.dim(0),
                                  .max_rows = plan.max_rows,
                                  .max_kv_len = plan.max_kv_len};
    cuda::Attention(y, q, Pages(kv), plan, shape, scale, heads,
                    AttentionWorkspace(shape, heads, kv), stream_,
                    options_.exact ? AttentionPath::kExact : AttentionPath::kFast);
  }

  void EditLogits(Tensor logits, std::span<const LogitEdit> edits, int64_t first_id) override {
    if (edits.empty()) return;
    cuda::EditLogits(logits, ToDevice(edits_, edits), static_cast<int>(edits.size()), first_id,
                     stream_);
  }
  void FindCutoffs(Tensor lasts, Tensor logits, std::span<const int64_t> firsts,
                   std::span<const Filter> filters) override {
    CHECK_LE(static_cast<int64_t>(filters.size()), logits.dim(1));
    cuda::FindCutoffs(Scores(lasts), logits, Shards(logits, firsts), ToDevice(filters_, filters),
                      static_cast<int>(filters.size()), stream_);
  }
  void Logprobs(Tensor logprobs, Tensor logits, std::span<const int64_t> firsts, Tensor drawn,
                std::span<const LogprobRow> rows) override {
    CHECK_LE(static_cast<int64_t>(rows.size()), logits.dim(1));
    cuda::Logprobs(Scores(logprobs), logits, Shards(logits, firsts), drawn.i32(),
                   ToDevice(logprob_rows_, rows), static_cast<int>(rows.size()), stream_);
  }
  void DrawBest(Tensor best, Tensor logits, std::span<const Draw> draws, Tensor lasts,
                int64_t first_id) override {
    const auto n = static_cast<int64_t>(draws.size());
    CHECK_EQ(best.dim(0), n);
    CHECK_EQ(logits.dim(0), n);
    if (n == 0) return;
    cuda::DrawBest(Scores(best), partial_.Get(n * kDrawSlices), logits, ToDevice(draws_, draws),
                   lasts.empty() ? nullptr : Scores(lasts), first_id, stream_);
  }
  void PickWinners(Tensor ids, Tensor best) override {
    CHECK_EQ(best.dim(1), ids.dim(0));
    cuda::PickWinners(ids, Scores(best), static_cast<int>(best.dim(0)), stream_);
  }
  void Feed(Tensor ids, Tensor drawn) override { cuda::Feed(ids, drawn, stream_); }

 private:
  template <typename T>
  T* ToDevice(DeviceArray<T>& array, std::span<const T> values) {
    T* to = array.Get(static_cast<int64_t>(values.size()));
    ring_.CopyToDevice(to, values.data(), values.size_bytes());
    return to;
  }
  void ToHost(void* to, const void* from, size_t bytes) {
    Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
  }

  static ShardFirsts Shards(Tensor logits, std::span<const int64_t> firsts) {
    CHECK_EQ(static_cast<int64_t>(firsts.size()), logits.dim(0) + 1);
    CHECK_LE(logits.dim(0), int64_t{kMostShards});
    ShardFirsts shards{.n = static_cast<int>(logits.dim(0))};
    std::copy(firsts.begin(), firsts.end(), shards.firsts);
    return shards;
  }

  // In the device's order inside a block: [n_blocks,K,B,D], keys and values alike.
  static KvLayer Pages(KvLayer kv) {
    const Tensor& v = kv.v;
    return {kv.k.As({v.dim(0), v.dim(1), v.dim(2), v.dim(3)}), v};
  }

  // For the largest step, from the first call on.
  void* AttentionWorkspace(const AttentionShape& shape, const HeadMap& heads, KvLayer kv) {
    const AttentionShape largest = {.n_sequences = std::max(options_.max_rows, shape.n_sequences),
                                    .n_tokens = std::max(options_.max_tokens, shape.n_tokens),
                                    .max_rows = std::max(options_.max_tokens, shape.max_rows),
                                    .max_kv_len = std::max(options_.max_kv_len, shape.max_kv_len)};
    const size_t bytes = AttentionWorkspaceBytes(largest, heads, kv.v.dim(3));
    if (bytes > workspace_.bytes()) workspace_ = AllocateDevice(bytes);
    return workspace_.data();
  }

  const CudaOptions options_;
  DeviceWait wait_;
  const cudaStream_t stream_;
  PinnedRing ring_;
  WeightLoader loader_;
  LinearDriver linear_;
  Buffer workspace_;  // of attention
  DeviceArray<DropoutRow> dropout_rows_;
  DeviceArray<Draw> draws_;
  DeviceArray<Scored> partial_;
  DeviceArray<Filter> filters_;
  DeviceArray<LogitEdit> edits_;
  DeviceArray<LogprobRow> logprob_rows_;
  std::map<std::string, Graph> graphs_;
};

}  // namespace

DeviceWait& DeviceWaitOf(Ops& ops) { return static_cast<CudaOps&>(ops).wait(); }

}  // namespace cuda

bool HasCuda() { return true; }

absl::StatusOr<int> CudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    return FailedPrecondition("no CUDA device: ", cudaGetErrorString(error),
                              "; install the driver, or use --device cpu");
  }
  return count;
}

std::string CudaDeviceName(int device) {
  cudaDeviceProp properties;
  cuda::Check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return StrCat(properties.name, " (sm_", properties.major, properties.minor, ")");
}

int64_t CudaFreeBytes() {
  size_t free = 0, total = 0;
  cuda::Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(const CudaOptions& options,
                                                 CudaFaultHandler on_fault) {
  ASSIGN_OR_RETURN(const int count, CudaDevices());
  if (options.device < 0 || options.device >= count) {
    return NotFound("CUDA device ", options.device, ": expected 0 to ", count - 1);
  }
  cuda::SetFaultHandler(on_fault);
  cuda::Check(cudaSetDevice(options.device), "cudaSetDevice");
  return std::make_unique<cuda::CudaOps>(options);
}

}  // namespace trireme
