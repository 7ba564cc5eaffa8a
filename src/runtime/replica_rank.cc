#include "runtime/replica_rank.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/build_id.h"
#include "base/file.h"
#include "base/log.h"
#include "kernels/cpu/cpu_ops.h"

namespace trireme {
namespace {

// Names the arithmetic of the kernels: a change of any bit changes it.
constexpr char kArithmetic[] = "cpu-1";
constexpr int64_t kLargestDefaultKvBytes = int64_t{8} << 30;

std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) cpus.push_back(i);
  }
  return cpus;
}

// This rank's share of the host's CPUs. Not pinned where the ranks want more than there are.
CpuOptions CpuShare(const ReplicaOptions& options, const World& world) {
  const std::vector<int> cpus = AllowedCpus();
  const int n_cpus = static_cast<int>(cpus.size());
  CpuOptions share{.n_threads = options.threads, .avx512 = options.avx512};
  if (share.n_threads == 0) share.n_threads = std::max(1, n_cpus / world.local_size());
  if (share.n_threads * world.local_size() <= n_cpus) {
    const int first = share.n_threads * world.local_rank();
    share.cpus.assign(cpus.begin() + first, cpus.begin() + first + share.n_threads);
  }
  return share;
}

// What is left of a container's limit (cgroup v2); the largest number where there is none.
int64_t CgroupMemory() {
  const std::string folder = "/sys/fs/cgroup/";
  int64_t limit = 0, used = 0;
  std::ifstream max(folder + "memory.max"), current(folder + "memory.current");
  if (!(max >> limit) || !(current >> used)) return INT64_MAX;
  return std::max<int64_t>(limit - used, 0);
}

int64_t AvailableMemory() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, unit; meminfo >> key;) {
    int64_t kib = 0;
    if (!(meminfo >> kib)) meminfo.clear();
    std::getline(meminfo, unit);
    if (key == "MemAvailable:") return std::min(kib * 1024, CgroupMemory());
  }
  return 0;
}

std::string ReadIfThere(const std::string& path) {
  auto text = ReadFile(path);
  return text.ok() ? *text : std::string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReplicaRank>> ReplicaRank::Load(const ReplicaOptions& options,
                                                               World& world,
                                                               const ReplicaProgress& progress) {
  std::unique_ptr<ReplicaRank> rank(new ReplicaRank(world));
  RETURN_IF_ERROR(rank->Agree(rank->Open(options)));
  RETURN_IF_ERROR(rank->AgreeOn(
      StrCat("version=", options.version, " build=", BuildId(), " model=", rank->fingerprint_,
             " tp=", options.layout.tp, " pp=", options.layout.pp,
             " sequence-parallel=", static_cast<int>(options.layout.sequence_parallel),
             " max-rows=", options.max_rows, " max-batch-tokens=", options.max_batch_tokens,
             " context-length=", options.context_length, " prefix-cache=", options.prefix_cache)));
  RETURN_IF_ERROR(rank->Agree(rank->LoadWeights(options, progress)));
  RETURN_IF_ERROR(rank->Agree(rank->Start(options)));
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
  const std::vector<std::string> hosts = world_.Exchange(world_.host());
  for (size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    const std::vector<std::string> a = SplitString(all[0], ' '), b = SplitString(all[r], ' ');
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (a[i] == b[i]) continue;
      return FailedPrecondition("the ranks differ: rank 0 on ", hosts[0], " has ", a[i], ", rank ",
                                r, " on ", hosts[r], " has ", b[i],
                                "; start all ranks with one program, one model and equal flags");
    }
  }
  return absl::OkStatus();
}

absl::Status ReplicaRank::Open(const ReplicaOptions& options) {
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
  ASSIGN_OR_RETURN(split_, Split::Make(config_, options.layout, world_.rank()));
  fingerprint_ =
      StrCat(store_->Fingerprint(), "/", Name(dtype_), "/", Name(options.activations), "/kv-",
             Name(options.activations), "/chunks-", split_->n_chunks(), "/", kArithmetic);
  const CpuOptions share = CpuShare(options, world_);
  n_threads_ = share.n_threads;
  if (!share.cpus.empty()) main_cpu_ = share.cpus.front();
  // The pool pins its caller; until Run() this thread is the parent of others, which are free.
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof(allowed), &allowed);
  ASSIGN_OR_RETURN(ops_, MakeCpuOps(share));
  sched_setaffinity(0, sizeof(allowed), &allowed);
  return absl::OkStatus();
}

absl::Status ReplicaRank::LoadWeights(const ReplicaOptions& options,
                                      const ReplicaProgress& progress) {
  const int64_t share = store_->bytes() * static_cast<int64_t>(SizeOf(dtype_)) /
                        static_cast<int64_t>(SizeOf(config_.dtype)) / options.layout.n_ranks();
  ASSIGN_OR_RETURN(model_, LoadModel(config_, *store_, *ops_, *split_,
                                     ModelOptions{.dtype = dtype_}, [&](int64_t bytes) {
                                       if (progress) progress(bytes, std::max(bytes, share));
                                     }));
  weight_bytes_ = model_->weight_bytes();
  return absl::OkStatus();
}

absl::Status ReplicaRank::Start(const ReplicaOptions& options) {
  const StepSize largest{.n_tokens = std::max(options.max_batch_tokens, options.max_rows),
                         .n_rows = options.max_rows};
  int64_t kv_bytes = options.kv_cache_bytes;
  if (kv_bytes == 0) {
    kv_bytes = std::min(AvailableMemory() / 2 / world_.local_size(), kLargestDefaultKvBytes);
  }
  // Every rank has as many blocks as the poorest.
  int64_t n_blocks = INT32_MAX / kKvBlockSize;
  for (const std::string& text : world_.Exchange(
           StrCat(kv_bytes / Engine::KvBlockBytes(config_, *split_, options.activations)))) {
    int64_t blocks = 0;
    CHECK(ParseNumber(text, &blocks));
    n_blocks = std::min(n_blocks, blocks);
  }
  int64_t context = config_.context();
  if (options.context_length > 0) context = std::min<int64_t>(context, options.context_length);
  const int64_t useful = (context + kKvBlockSize) / kKvBlockSize * (options.max_rows + 1) * 4;
  n_blocks = std::min(n_blocks, useful);
  context = std::min(context, n_blocks * kKvBlockSize);
  if (context < 2) {
    return InvalidArgument("--kv-cache-bytes ", kv_bytes, ": expected at least ",
                           Engine::KvBlockBytes(config_, *split_, options.activations),
                           ", the bytes of one KV block on this rank");
  }

  WorldOptions traffic = Engine::Traffic(config_, *split_, largest, options.activations);
  traffic.timeout = options.timeout;
  traffic.n_threads = n_threads_;
  world_.Reserve(traffic);
  mesh_ = std::make_unique<Mesh>(world_, *ops_, *split_);
  engine_ =
      std::make_unique<Engine>(config_, std::move(model_), *mesh_,
                               EngineOptions{.activations = options.activations,
                                             .n_blocks = n_blocks,
                                             .largest = largest,
                                             .context_length = static_cast<int32_t>(context)});

  scheduler_options_ = {.n_blocks = n_blocks,
                        .max_rows = options.max_rows,
                        .max_batch_tokens = static_cast<int32_t>(largest.n_tokens),
                        .context_length = static_cast<int32_t>(context),
                        .vocab_size = static_cast<int32_t>(config_.vocab),
                        .pp = options.layout.pp,
                        .prefix_cache = options.prefix_cache};
  switch (options.layout.sequence_parallel) {
    case SequenceParallel::kOn:
      scheduler_options_.sequence_parallel_tokens = 0;
      break;
    case SequenceParallel::kOff:
      break;
    case SequenceParallel::kAuto:
      // Below this the smaller norms do not pay for a second message.
      scheduler_options_.sequence_parallel_tokens = int64_t{64} * options.layout.tp;
      break;
  }
  ReplicaInfo info = Describe(options);
  if (world_.rank() == 0) {
    leader_ = std::make_unique<Leader>(world_, *engine_, scheduler_options_, options.layout.pp,
                                       std::move(info));
  }
  return absl::OkStatus();
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
  }
  info.eos_ids = config_.eos_ids;
  info.vocab_size = static_cast<int32_t>(config_.vocab);
  info.context_length = scheduler_options_.context_length;
  info.max_rows = options.max_rows;
  info.kv_tokens = scheduler_options_.n_blocks * kKvBlockSize;
  info.kv_block_size = static_cast<int32_t>(kKvBlockSize);
  info.tp = options.layout.tp;
  info.pp = options.layout.pp;
  info.sequence_parallel = options.layout.sequence_parallel == SequenceParallel::kOn;
  info.dtype = Name(dtype_);
  info.activations = Name(options.activations);
  info.device = StrCat("cpu ", CpuTargetName(options.avx512));
  info.version = options.version;
  info.hosts = world_.Exchange(world_.host());
  for (const std::string& pid : world_.Exchange(StrCat(::getpid()))) {
    info.rank_pids.push_back(0);
    CHECK(ParseNumber(pid, &info.rank_pids.back()));
  }
  return info;
}

void ReplicaRank::WarmUp() {
  if (leader_) {
    leader_->WarmUp();
  } else {
    RunOnePlan(world_, *engine_);
  }
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
    FollowLeader(world_, *engine_);
  }
}

Replica& ReplicaRank::replica() {
  CHECK(leader_ != nullptr) << "only rank 0 has a Replica";
  return *leader_;
}

}  // namespace trireme
