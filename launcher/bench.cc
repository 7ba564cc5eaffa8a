// trireme bench kernels | comm | engine: how fast this machine runs what, beside its bounds.
#include <iostream>

#include "base/log.h"
#include "bench/comm_bench.h"
#include "bench/engine_bench.h"
#include "bench/kernels_bench.h"
#include "kernels/cpu/cpu_ops.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/rank.h"
#include "launcher/validators.h"
#include "runtime/device.h"

namespace trireme {
namespace {

void AddRounds(CLI::App& app, int* rounds) {
  app.add_option("--rounds", *rounds, "every case once a round; the median counts")
      ->transform(AtLeast(1))
      ->type_name("N");
}

void AddJson(CLI::App& app, std::string* path) {
  app.add_option("--json-file", *path, "also write the figures to this file")->type_name("FILE");
}

void AddDevice(CLI::App& app, std::string* device, const std::string& help) {
  app.add_option("--device", *device, help)
      ->check(OneOf({"auto", "cpu", "cuda"}))
      ->type_name("NAME");
}

DeviceKind ParseDevice(const std::string& name) {
  if (name == "cpu") return DeviceKind::kCpu;
  return name == "cuda" ? DeviceKind::kCuda : DeviceKind::kAuto;
}

void AddQuick(CLI::App& app, bool* quick) {
  app.add_flag("--quick", *quick, "tries the bench with little memory; no figure counts");
}

class BenchKernels : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    AddDevice(app, &device_, "auto, cpu or cuda; auto: CUDA where there is a device");
    app.add_flag("--exact", options_.exact, "the kernels of --exact, on CUDA");
    app.add_option("--shape", options_.shape, "a model's: tinyllama-1.1b, llama3-8b, …")
        ->type_name("NAME");
    app.add_option("--threads", options_.n_threads, "threads")
        ->transform(AtLeast(1))
        ->type_name("N");
    app.add_option("--dtype", dtype_, "of the weights: f32, f16 or bf16")
        ->check(OneOf({"f32", "f16", "bf16"}))
        ->type_name("TYPE");
    app.add_option("--activations", activations_, "f32, bf16 or f16")
        ->check(OneOf({"f32", "bf16", "f16"}))
        ->type_name("TYPE");
    AddList(app, "--rows", options_.rows, 1, "rows of the left operand, such as 1,16,512")
        ->type_name("LIST");
    AddList(app, "--contexts", options_.contexts, 1, "tokens in the cache of a decoding sequence")
        ->type_name("LIST");
    app.add_option("--only", options_.only, "cases whose name contains this")->type_name("TEXT");
    app.add_flag("--no-avx512", no_avx512_, "AVX2 even where there is AVX-512");
    AddQuick(app, &options_.quick);
    AddRounds(app, &options_.rounds);
    AddJson(app, &options_.json);
  }

  absl::Status Run() override {
    options_.device = ParseDevice(device_);
    options_.weights = *ParseDType(dtype_);
    options_.activations = *ParseDType(activations_);
    options_.avx512 = !no_avx512_;
    return RunKernelsBench(options_, std::cout);
  }

 private:
  KernelsBenchOptions options_;
  std::string device_ = "auto";
  std::string dtype_ = "bf16";
  std::string activations_ = "f32";
  bool no_avx512_ = false;
};

class BenchComm : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    AddDevice(app, &device_, "auto, cpu or cuda: on CUDA devices, too");
    app.add_option("--max-bytes", options_.max_bytes, "of the largest tensor, such as 64M")
        ->transform(Size())
        ->type_name("SIZE");
    app.add_flag("--no-shared-memory", no_shared_memory_, "through MPI inside a host, too");
    AddRounds(app, &options_.rounds);
    AddJson(app, &options_.json);
  }

  absl::Status Run() override {
    ASSIGN_OR_RETURN(std::unique_ptr<World> world, JoinWorld());
    ASSIGN_OR_RETURN(const DeviceKind kind, Device::Choose(ParseDevice(device_)));
    ASSIGN_OR_RETURN(const Device device,
                     Device::Open(kind, {.n_threads = 1}, {}, world->local_rank()));
    options_.shared_memory = !no_shared_memory_;
    return RunCommBench(*world, device.host(), device.is_cuda() ? &device.ops() : nullptr, options_,
                        std::cout);
  }

 private:
  CommBenchOptions options_;
  std::string device_ = "auto";
  bool no_shared_memory_ = false;
};

class BenchEngine : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("--shape", shape_, "random weights of this shape: tinyllama-1.1b, qwen2-0.5b, …")
        ->type_name("NAME");
    replica_.Add(app, ReplicaFlags::Model::kOptional);
    AddList(app, "--batches", options_.batches, 1, "sequences that decode together")
        ->type_name("LIST");
    app.add_option("--decode-context", options_.decode_context, "tokens in the cache of each")
        ->transform(AtLeast(1))
        ->type_name("N");
    app.add_option("--prompt-tokens", options_.prompt_tokens, "tokens of the prefill case")
        ->transform(AtLeast(1))
        ->type_name("N");
    app.add_option("--decode-steps", options_.decode_steps, "steps of a decode case")
        ->transform(AtLeast(1))
        ->type_name("N");
    AddQuick(app, &options_.quick);
    AddRounds(app, &options_.rounds);
    AddJson(app, &options_.json);
  }

  absl::Status Check() override {
    if (shape_.empty() == replica_.model_dir().empty()) {
      return InvalidArgument("expected --shape or --model");
    }
    return replica_.CheckRanks();
  }

  absl::Status Run() override {
    ASSIGN_OR_RETURN(std::unique_ptr<World> world, JoinWorld());
    InitLog({.role = "bench", .rank = world->rank()}, {.level = "warn"});
    options_.replica = replica_.Options();
    options_.replica.shape = shape_;
    return RunEngineBench(options_, *world, std::cout);
  }

 private:
  std::string shape_;
  ReplicaFlags replica_;
  EngineBenchOptions options_;
};

}  // namespace

std::unique_ptr<Command> MakeBenchKernels() { return std::make_unique<BenchKernels>(); }
std::unique_ptr<Command> MakeBenchComm() { return std::make_unique<BenchComm>(); }
std::unique_ptr<Command> MakeBenchEngine() { return std::make_unique<BenchEngine>(); }

}  // namespace trireme
