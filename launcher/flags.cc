#include "launcher/flags.h"

#include <cmath>
#include <utility>

#include "comm/launch.h"
#include "launcher/validators.h"
#include "launcher/version.h"

namespace trireme {
namespace {

const std::vector<std::string> kWeightTypes = {"f32", "f16", "bf16"};
const std::vector<std::string> kActivationTypes = {"auto", "f32", "bf16", "f16"};

SequenceParallel ParseSequenceParallel(const std::string& text) {
  if (text == "on") return SequenceParallel::kOn;
  if (text == "off") return SequenceParallel::kOff;
  return SequenceParallel::kAuto;
}

}  // namespace

void ReplicaFlags::Add(CLI::App& app, Model model) {
  if (model != Model::kNone) {
    app.add_option("--model", options_.model_dir, "directory in the Hugging Face layout")
        ->required(model == Model::kRequired)
        ->type_name("DIR");
  }
  const size_t n_before = app.get_options().size();
  app.add_option("--tp", options_.layout.tp, "tensor-parallel ranks: any number up to the heads")
      ->transform(AtLeast(1))
      ->type_name("N");
  app.add_option("--pp", options_.layout.pp, "pipeline stages: any number up to the layers")
      ->transform(AtLeast(1))
      ->type_name("N");
  app.add_flag("--sequence-parallel{on}", sequence_parallel_,
               "split norms and residuals over the tp ranks, too: on, off, or auto (by each step's "
               "tokens)")
      ->check(OneOf({"auto", "on", "off"}));
  app.add_option("--dtype", dtype_, "of the weights: f32, f16 or bf16; default: the checkpoint's")
      ->check(OneOf(kWeightTypes))
      ->type_name("TYPE");
  app.add_option("--activations", activations_,
                 "f32, bf16 or f16, also of the KV cache; auto: on a GPU the weights' where those "
                 "have 16 bits, else f32")
      ->check(OneOf(kActivationTypes))
      ->type_name("TYPE");
  app.add_option("--device", device_, "auto, cpu or cuda; auto: CUDA where there is a device")
      ->check(OneOf({"auto", "cpu", "cuda"}))
      ->type_name("NAME");
  app.add_option("--comm", comm_,
                 "between GPUs: nccl, staged (by way of the host), or auto: nccl where each rank "
                 "has a GPU of its own")
      ->check(OneOf({"auto", "nccl", "staged"}))
      ->type_name("NAME");
  app.add_flag("--exact", exact_,
               "on a GPU, too, the same bits for a request whatever the layout and its neighbours "
               "are; slower");
  app.add_option("--threads", options_.threads,
                 "threads of a rank; 0: its share of the host's CPUs")
      ->transform(AtLeast(0))
      ->type_name("N");
  app.add_option(
         "--kv-cache-bytes", options_.kv_cache_bytes,
         "KV cache of a rank, such as 512M or 4G; 0: half of the free memory, at most 8G; on a "
         "GPU what --gpu-memory-utilization says")
      ->transform(Size())
      ->type_name("SIZE");
  app.add_option(
         "--gpu-memory-utilization", options_.gpu_memory_utilization,
         "the KV cache's share of what is free on a GPU when the weights are loaded and the "
         "largest step has run")
      ->check(Share())
      ->type_name("X");
  app.add_option("--max-batch-tokens", options_.max_batch_tokens, "tokens of one step at most")
      ->transform(AtLeast(1))
      ->type_name("N");
  app.add_option("--max-rows", options_.max_rows, "sequences that run together")
      ->transform(AtLeast(1))
      ->type_name("N");
  app.add_option("--context-length", options_.context_length,
                 "tokens of prompt and answer at most; 0: the model's")
      ->transform(AtLeast(0))
      ->type_name("N");
  app.add_option(
         "--step-timeout", step_timeout_s_,
         "a replica in which nothing moves for so long hangs, and is ended: 30s, 500ms, 2m; "
         "an idle one runs a canary step now and then")
      ->transform(Seconds())
      ->type_name("TIME");
  app.add_flag("--no-prefix-cache", no_prefix_cache_, "compute every prompt from its beginning");
  app.add_flag("--no-avx512", no_avx512_, "AVX2 even where there is AVX-512");
  const std::vector<const CLI::Option*> all = std::as_const(app).get_options();
  flags_.assign(all.begin() + static_cast<std::ptrdiff_t>(n_before), all.end());
}

absl::Status ReplicaFlags::CheckRanks() const {
  const int running = LaunchedRanks();
  const Layout& layout = options_.layout;
  if (layout.n_ranks() == running) return absl::OkStatus();
  return InvalidArgument("--tp ", layout.tp, " x --pp ", layout.pp, " needs ", layout.n_ranks(),
                         layout.n_ranks() == 1 ? " rank, but " : " ranks, but ", running,
                         running == 1 ? " is" : " are", " running: start it with mpirun -n ",
                         layout.n_ranks());
}

std::string ReplicaFlags::FirstGiven() const {
  for (const CLI::Option* flag : flags_) {
    if (flag->count() > 0) return flag->get_name();
  }
  return "";
}

ReplicaOptions ReplicaFlags::Options() const {
  ReplicaOptions options = options_;
  options.layout.sequence_parallel = ParseSequenceParallel(sequence_parallel_);
  options.dtype = ParseDType(dtype_);
  options.activations = ParseDType(activations_);  // auto: none
  options.exact = exact_;
  options.prefix_cache = !no_prefix_cache_;
  options.avx512 = !no_avx512_;
  options.device = device_ == "cpu"    ? DeviceKind::kCpu
                   : device_ == "cuda" ? DeviceKind::kCuda
                                       : DeviceKind::kAuto;
  options.comm = comm_ == "nccl"     ? CommKind::kNccl
                 : comm_ == "staged" ? CommKind::kStaged
                                     : CommKind::kAuto;
  options.step_timeout = std::chrono::milliseconds(std::llround(1e3 * step_timeout_s_));
  options.version = Version();
  return options;
}

std::vector<std::string> ReplicaFlags::Arguments() const {
  std::vector<std::string> arguments = {"--model",
                                        options_.model_dir,
                                        "--tp",
                                        StrCat(options_.layout.tp),
                                        "--pp",
                                        StrCat(options_.layout.pp),
                                        "--sequence-parallel=" + sequence_parallel_,
                                        "--activations",
                                        activations_,
                                        "--device",
                                        device_,
                                        "--comm",
                                        comm_,
                                        "--threads",
                                        StrCat(options_.threads),
                                        "--kv-cache-bytes",
                                        StrCat(options_.kv_cache_bytes),
                                        "--gpu-memory-utilization",
                                        StrCat(options_.gpu_memory_utilization),
                                        "--max-batch-tokens",
                                        StrCat(options_.max_batch_tokens),
                                        "--max-rows",
                                        StrCat(options_.max_rows),
                                        "--context-length",
                                        StrCat(options_.context_length),
                                        "--step-timeout",
                                        StrCat(step_timeout_s_)};
  if (!dtype_.empty()) arguments.insert(arguments.end(), {"--dtype", dtype_});
  if (exact_) arguments.push_back("--exact");
  if (no_prefix_cache_) arguments.push_back("--no-prefix-cache");
  if (no_avx512_) arguments.push_back("--no-avx512");
  return arguments;
}

void AddReplicaSecret(CLI::App& app, std::string* secret) {
  app.add_option("--replica-secret", *secret,
                 "what a replica must know to be one; better given as TRIREME_REPLICA_SECRET")
      ->type_name("TEXT");
}

void AddApiKey(CLI::App& app, std::string* key) {
  app.add_option("--api-key", *key, "that the server asks for; better given as TRIREME_API_KEY")
      ->type_name("KEY");
}

void AddClientTls(CLI::App& app, ClientTls* tls) {
  app.add_flag("--tls", tls->on,
               "dial by TLS, and trust the authorities that this host trusts; the flags below turn "
               "it on, too");
  app.add_option("--tls-ca", tls->files.ca, "trust these authorities' certificates alone (PEM)")
      ->type_name("FILE");
  app.add_option("--tls-cert", tls->files.cert,
                 "the certificate to show to a server that asks for one (PEM)")
      ->type_name("FILE");
  app.add_option("--tls-key", tls->files.key, "its key")->type_name("FILE");
  app.add_option("--tls-server-name", tls->server_name,
                 "a name that the server's certificate is for; default: the host that is dialled")
      ->type_name("NAME");
}

void AddLog(CLI::App& app, LogOptions* log) {
  app.add_option("--log-level", log->level, "trace, debug, info, warn, error or off")
      ->check(OneOf({"trace", "debug", "info", "warn", "error", "off"}))
      ->type_name("LEVEL");
  app.add_option("--log-format", log->format, "text, or json: each line an object")
      ->check(OneOf({"text", "json"}))
      ->type_name("NAME");
}

}  // namespace trireme
