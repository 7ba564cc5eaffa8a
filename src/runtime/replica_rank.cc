#include "runtime/replica_rank.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "comm/nccl_communicator.h"
#include "runtime/memory.h"

namespace trireme {
namespace {

StepSize LargestStep(const ReplicaOptions& options) {
  return {.n_tokens = std::max(options.max_batch_tokens, options.max_rows),
          .n_rows = options.max_rows};
}

// The least KV cache that a model is loaded for, where its context has as many.
constexpr int64_t kLeastKvTokens = 2048;

constexpr StepSize kOneToken = {.n_tokens = 1, .n_rows = 1};

// Waits for peers end sooner than the leader's watch: they say who did not come.
std::chrono::milliseconds PeerTimeout(const ReplicaOptions& options) {
  return options.step_timeout * 3 / 4;
}

// Step timeouts without a plan after which a rank gives its leader up.
constexpr int kPatience = 2;

// n_tokens in sequences of at most `context`, all of them reading one block and writing none, and
// an id drawn from each of n_rows rows through a filter.
StepPlan LargestPlan(const StepSize& largest, int64_t context, int64_t sequence_parallel_tokens) {
  StepPlan plan{.id = -1, .q_starts = {0}};
  const int64_t most = std::min(context, largest.n_tokens);
  const auto n_sequences = std::min(largest.n_rows, largest.n_tokens / most);
  plan.max_blocks = static_cast<int32_t>((most + kKvBlockSize - 1) / kKvBlockSize);
  for (int64_t s = 0; s < n_sequences; ++s) {
    for (int64_t i = 0; i < most; ++i) plan.positions.push_back(static_cast<int32_t>(i));
    plan.q_starts.push_back(static_cast<int32_t>(plan.positions.size()));
    plan.kv_lens.push_back(static_cast<int32_t>(most));
  }
  plan.tokens.assign(plan.positions.size(), 0);
  plan.slots.assign(plan.positions.size(), -1);
  plan.block_table.assign(static_cast<size_t>(n_sequences * plan.max_blocks), 0);
  for (int64_t i = 0; i < std::min(largest.n_rows, plan.n_tokens()); ++i) {
    plan.samples.push_back(
        {.row = static_cast<int32_t>(i), .params = {.temperature = 1, .top_p = 0.9f}});
  }
  plan.sequence_parallel = plan.n_tokens() >= sequence_parallel_tokens;
  return plan;
}

// From how many tokens on a step is sequence-parallel.
int64_t SequenceParallelTokens(const Layout& layout) {
  switch (layout.sequence_parallel) {
    case SequenceParallel::kOn:
      return 0;
    case SequenceParallel::kOff:
      return INT64_MAX;
    case SequenceParallel::kAuto:
      break;
  }
  return int64_t{64} * layout.tp;  // below, the smaller norms do not pay for a second message
}

std::string ReadIfThere(const std::string& path) {
  auto text = ReadFile(path);
  return text.ok() ? *text : std::string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReplicaRank>> ReplicaRank::Load(const ReplicaOptions& options,
                                                               World& world,
                                                               const LoadProgress& progress) {
  std::unique_ptr<ReplicaRank> rank(new ReplicaRank(world));
  CpuOptions share = ShareOfCpus(world, options.threads);
  share.max_rows = LargestStep(options).n_tokens;
  share.avx512 = options.avx512;
  RETURN_IF_ERROR(rank->Agree(rank->Open(options, share)));
  RETURN_IF_ERROR(rank->AgreeOn(
      StrCat("version=", options.version, " build=", options.build_id,
             " device=", rank->device_->arithmetic(), " comm=", static_cast<int>(options.comm),
             " model=", rank->fingerprint_, " tp=", options.layout.tp, " pp=", options.layout.pp,
             " sequence-parallel=", static_cast<int>(options.layout.sequence_parallel),
             " max-rows=", options.max_rows, " max-batch-tokens=", options.max_batch_tokens,
             " context-length=", options.context_length, " prefix-cache=", options.prefix_cache)));
  RETURN_IF_ERROR(rank->Agree(rank->CheckMemory(options)));
  RETURN_IF_ERROR(rank->ChooseExchange(options));
  RETURN_IF_ERROR(rank->Agree(rank->LoadWeights(progress)));
  rank->MakeEngine(options);
  rank->WarmUp(options);
  const absl::StatusOr<int64_t> n_blocks = rank->CountKvBlocks(options);
  RETURN_IF_ERROR(rank->Agree(n_blocks.status()));
  rank->Start(options, *n_blocks);
  return rank;
}

absl::Status ReplicaRank::Agree(const absl::Status& mine) {
  const std::string text =
      mine.ok() ? "" : StrCat(static_cast<int>(mine.code()), " ", Message(mine));
  const std::vector<std::string> all = world_.Exchange(text);
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].empty()) continue;
    int code = 0;
    const size_t space = all[r].find(' ');
    CHECK(ParseNumber(std::string_view(all[r]).substr(0, space), &code));
    const std::string message = all[r].substr(space + 1);
    return absl::Status(static_cast<absl::StatusCode>(code),
                        world_.size() == 1 ? message : StrCat("rank ", r, ": ", message));
  }
  return absl::OkStatus();
}

absl::Status ReplicaRank::AgreeOn(const std::string& mine) {
  const std::vector<std::string> all = world_.Exchange(mine);
  hosts_ = world_.Exchange(world_.host());
  for (size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    const std::vector<std::string> a = SplitString(all[0], ' '), b = SplitString(all[r], ' ');
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (a[i] == b[i]) continue;
      return FailedPrecondition("the ranks differ: rank 0 on ", hosts_[0], " has ", a[i], ", rank ",
                                r, " on ", hosts_[r], " has ", b[i],
                                "; start all ranks with one program, one model and equal flags");
    }
  }
  return absl::OkStatus();
}

absl::Status ReplicaRank::Open(const ReplicaOptions& options, const CpuOptions& share) {
  if (options.layout.n_ranks() != world_.size()) {
    return InvalidArgument("--tp ", options.layout.tp, " x --pp ", options.layout.pp, " needs ",
                           options.layout.n_ranks(), " ranks, but ", world_.size(),
                           world_.size() == 1 ? " is" : " are", " running; start with mpirun -n ",
                           options.layout.n_ranks());
  }
  if (options.shape.empty()) {
    ASSIGN_OR_RETURN(config_, ReadModelConfig(options.model_dir, Architectures()));
    ASSIGN_OR_RETURN(store_, OpenCheckpoint(options.model_dir));
    RETURN_IF_ERROR(store_->Expect(ModelTensors(config_)));
  } else {
    ASSIGN_OR_RETURN(config_, NamedShape(options.shape));
    store_ = MakeRandomStore(ModelTensors(config_), options.dtype.value_or(config_.dtype));
  }
  dtype_ = options.dtype.value_or(config_.dtype);
  ASSIGN_OR_RETURN(const DeviceKind kind, Device::Choose(options.device));
  if (kind == DeviceKind::kCuda && !HasCudaHead(config_.head_dim)) {
    return Unimplemented("the model has a head_dim of ", config_.head_dim,
                         "; on CUDA devices it has to be even and from ", kCudaLeastHead, " to ",
                         kCudaMostHead, "; use --device cpu");
  }
  const bool cuda_types = kind == DeviceKind::kCuda && SizeOf(dtype_) == 2;
  activations_ = options.activations.value_or(cuda_types ? dtype_ : DType::kF32);
  const bool fast = kind == DeviceKind::kCuda && !options.exact;
  ASSIGN_OR_RETURN(split_, Split::Make(config_, options.layout, world_.rank(),
                                       fast ? Reduction::kFast : Reduction::kExact));
  n_threads_ = share.n_threads;
  if (!share.cpus.empty()) main_cpu_ = share.cpus.front();
  const StepSize largest = LargestStep(options);
  const CudaOptions cuda = {.exact = options.exact,
                            .max_tokens = largest.n_tokens,
                            .max_rows = largest.n_rows,
                            .max_kv_len = ContextLength(options),
                            .n_loading_threads = share.n_threads,
                            .timeout = PeerTimeout(options)};
  ASSIGN_OR_RETURN(device_, Device::Open(kind, share, cuda, world_.local_rank()));
  fingerprint_ = StrCat(store_->Fingerprint(), "/", ArithmeticHash(config_), "/", Name(dtype_), "/",
                        Name(activations_), "/kv-", Name(activations_), "/chunks-",
                        split_->n_chunks(), "/", device_->arithmetic());
  return absl::OkStatus();
}

absl::Status ReplicaRank::ChooseExchange(const ReplicaOptions& options) {
  const CommKind wanted = options.comm;
  if (!device_->is_cuda()) {
    if (wanted != CommKind::kNccl) return absl::OkStatus();
    return FailedPrecondition("--comm nccl: the device is the CPU; use --comm auto");
  }
  if (world_.size() == 1) return absl::OkStatus();
  std::string why = "--comm staged";
  if (wanted != CommKind::kStaged) {
    const absl::StatusOr<std::string> nccl = FindNccl(world_);
    if (!nccl.ok() && wanted == CommKind::kNccl) {
      return absl::Status(nccl.status().code(),
                          StrCat("--comm nccl: ", Message(nccl.status()), "; use --comm auto"));
    }
    exchange_ = {.nccl = nccl.ok(), .exact = options.exact};
    (nccl.ok() ? exchange_name_ : why) = nccl.ok() ? *nccl : Message(nccl.status());
  }
  if (!exchange_.nccl) exchange_name_ = "by way of the host";
  if (world_.rank() == 0) {
    spdlog::info("the ranks' devices exchange tensors {}",
                 exchange_.nccl ? "by " + exchange_name_ : exchange_name_ + ": " + why);
  }
  return absl::OkStatus();
}

absl::Status ReplicaRank::LoadWeights(const LoadProgress& progress) {
  ASSIGN_OR_RETURN(model_, LoadModel(config_, *store_, device_->ops(), *split_,
                                     ModelOptions{.dtype = dtype_}, progress));
  weight_bytes_ = model_->weight_bytes();
  return absl::OkStatus();
}

absl::Status ReplicaRank::CheckMemory(const ReplicaOptions& options) const {
  const int64_t context = ContextLength(options);
  if (context < 2) {
    return InvalidArgument(
        context == options.context_length ? "--context-length " : "the model's context length ",
        context, ": expected at least 2, one token of the prompt and one more");
  }
  const int64_t block_bytes = Engine::KvBlockBytes(config_, *split_, activations_);
  if (options.kv_cache_bytes > 0 && options.kv_cache_bytes < block_bytes) {
    return InvalidArgument("--kv-cache-bytes ", options.kv_cache_bytes, ": expected at least ",
                           block_bytes, ", the bytes of one KV block on this rank");
  }
  if (!device_->is_cuda()) return absl::OkStatus();
  const int64_t kv_tokens = options.kv_cache_bytes > 0
                                ? options.kv_cache_bytes / block_bytes * kKvBlockSize
                                : std::min(context, kLeastKvTokens);
  return CheckFits(config_, *split_,
                   {.dtype = dtype_,
                    .activations = activations_,
                    .largest = LargestStep(options),
                    .kv_tokens = kv_tokens,
                    .reduction = split_->reduction()},
                   device_->FreeCudaBytes(world_.local_size() * options.host_replicas));
}

absl::StatusOr<int64_t> ReplicaRank::CountKvBlocks(const ReplicaOptions& options) const {
  int64_t kv_bytes = options.kv_cache_bytes;
  if (kv_bytes == 0) {
    kv_bytes = device_->KvBytes(world_.local_size() * options.host_replicas,
                                options.gpu_memory_utilization);
  }
  const int64_t block_bytes = Engine::KvBlockBytes(config_, *split_, activations_);
  if (kv_bytes < block_bytes) {
    return FailedPrecondition("no memory is left for a KV cache: ", kv_bytes,
                              " bytes, expected at least ", block_bytes,
                              ", one block; use more ranks or a smaller --max-batch-tokens");
  }
  const int64_t useful =
      (ContextLength(options) + kKvBlockSize) / kKvBlockSize * (options.max_rows + 1) * 4;
  return std::min({kv_bytes / block_bytes, useful, INT32_MAX / kKvBlockSize});
}

void ReplicaRank::MakeEngine(const ReplicaOptions& options) {
  const StepSize largest = LargestStep(options);
  WorldOptions traffic = Engine::Traffic(config_, *split_, largest, activations_);
  traffic.timeout = PeerTimeout(options);
  traffic.n_threads = n_threads_;
  world_.Reserve(traffic);
  mesh_ = std::make_unique<Mesh>(world_, device_->ops(), device_->host(), *split_, exchange_);
  engine_ = std::make_unique<Engine>(
      config_, std::move(model_), *mesh_,
      EngineOptions{.activations = activations_,
                    .n_blocks = 1,
                    .largest = largest,
                    .context_length = static_cast<int32_t>(ContextLength(options))});
}

// Where the KV cache is what the device has left.
bool ReplicaRank::MeasuresMemory(const ReplicaOptions& options) const {
  return device_->is_cuda() && options.kv_cache_bytes == 0;
}

void ReplicaRank::WarmUp(const ReplicaOptions& options) {
  RunPlanAlone(world_, *engine_,
               LargestPlan(MeasuresMemory(options) ? LargestStep(options) : kOneToken,
                           ContextLength(options), SequenceParallelTokens(options.layout)),
               options.step_timeout, OtherStages(hosts_, options.layout.tp));
}

void ReplicaRank::Start(const ReplicaOptions& options, int64_t n_blocks) {
  // Every rank has as many blocks as the poorest; each has looked before any takes them.
  for (const std::string& text : world_.Exchange(StrCat(n_blocks))) {
    int64_t blocks = 0;
    CHECK(ParseNumber(text, &blocks));
    n_blocks = std::min(n_blocks, blocks);
  }
  engine_->SetKvBlocks(n_blocks);
  step_timeout_ = options.step_timeout;
  scheduler_options_ = {.n_blocks = n_blocks,
                        .max_rows = options.max_rows,
                        .max_batch_tokens = static_cast<int32_t>(LargestStep(options).n_tokens),
                        .context_length = static_cast<int32_t>(
                            std::min(ContextLength(options), n_blocks * kKvBlockSize)),
                        .vocab_size = static_cast<int32_t>(config_.vocab),
                        .pp = options.layout.pp,
                        .ahead = options.layout.pp == 1 && device_->ops().Asynchronous(),
                        .prefix_cache = options.prefix_cache,
                        .sequence_parallel_tokens = SequenceParallelTokens(options.layout)};
  ReplicaInfo info = Describe(options);
  if (world_.rank() == 0) {
    leader_ = std::make_unique<Leader>(
        world_, *engine_, scheduler_options_,
        LargestPlan(kOneToken, ContextLength(options), SequenceParallelTokens(options.layout)),
        options.step_timeout, std::move(info));
  }
}

// What the model and the flags allow, whatever the KV cache holds: a part of what the model is.
int64_t ReplicaRank::ContextLength(const ReplicaOptions& options) const {
  if (options.context_length == 0) return config_.context();
  return std::min<int64_t>(config_.context(), options.context_length);
}

ReplicaInfo ReplicaRank::Describe(const ReplicaOptions& options) const {
  ReplicaInfo info;
  const std::filesystem::path directory =
      std::filesystem::path(options.model_dir).lexically_normal();
  info.model = !options.served_name.empty() ? options.served_name
               : !options.shape.empty()     ? options.shape
               : directory.has_filename()   ? directory.filename().string()
                                            : directory.parent_path().filename().string();
  info.fingerprint = fingerprint_;
  if (options.shape.empty() && world_.rank() == 0) {
    info.tokenizer_json = ReadIfThere(options.model_dir + "/tokenizer.json");
    info.tokenizer_config_json = ReadIfThere(options.model_dir + "/tokenizer_config.json");
    info.chat_template = ReadIfThere(options.model_dir + "/chat_template.jinja");
  }
  info.eos_ids = config_.eos_ids;
  info.vocab_size = static_cast<int32_t>(config_.vocab);
  info.context_length = static_cast<int32_t>(ContextLength(options));
  info.max_rows = options.max_rows;
  info.kv_tokens = scheduler_options_.n_blocks * kKvBlockSize;
  info.kv_block_size = static_cast<int32_t>(kKvBlockSize);
  info.credits = AllCredits(scheduler_options_);
  info.tp = options.layout.tp;
  info.pp = options.layout.pp;
  info.sequence_parallel = options.layout.sequence_parallel == SequenceParallel::kOn;
  info.dtype = Name(dtype_);
  info.activations = Name(activations_);
  info.device = device_->name();
  if (!exchange_name_.empty()) info.device += ", " + exchange_name_;
  info.version = options.version;
  info.number = options.number;
  info.hosts = hosts_;
  for (const std::string& pid : world_.Exchange(StrCat(::getpid()))) {
    info.rank_pids.push_back(0);
    CHECK(ParseNumber(pid, &info.rank_pids.back()));
  }
  return info;
}

void ReplicaRank::Run() {
  if (main_cpu_.has_value()) {
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(*main_cpu_, &own);
    sched_setaffinity(0, sizeof(own), &own);
  }
  if (leader_) {
    leader_->Run();
  } else {
    FollowLeader(world_, *engine_, kPatience * step_timeout_);
  }
}

Replica& ReplicaRank::replica() {
  CHECK(leader_ != nullptr) << "only rank 0 has a Replica";
  return *leader_;
}

}  // namespace trireme
