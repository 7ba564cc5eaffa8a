// trireme bench serve: what a server does under load, seen by its clients.
#include <unistd.h>

#include <iostream>

#include "base/file.h"
#include "base/log.h"
#include "bench/serve_bench.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/validators.h"

namespace trireme {
namespace {

CLI::Validator Lengths() {
  return CLI::Validator(
      [](std::string& text) { return std::string(ParseLengths(text).status().message()); }, "");
}

// ttft:200ms,tbt:50ms,e2e:10s; each becomes seconds.
CLI::Validator Limits() {
  return ListOf(CLI::Validator(
      [](std::string& text) {
        const size_t colon = text.find(':');
        const std::string name = text.substr(0, colon);
        if (colon == std::string::npos || (name != "ttft" && name != "tbt" && name != "e2e")) {
          return "expected ttft:TIME, tbt:TIME or e2e:TIME" + ButNot(text);
        }
        std::string time = text.substr(colon + 1);
        const std::string error = trireme::Seconds()(time);
        if (!error.empty()) return error + " (in " + text + ")";
        text = name + ":" + time;
        return std::string();
      },
      ""));
}

GoodputLimits ParseLimits(const std::string& text) {
  GoodputLimits limits;
  for (const std::string& part : SplitString(text, ',')) {
    const size_t colon = part.find(':');
    double seconds = 0;
    if (!ParseNumber(std::string_view(part).substr(colon + 1), &seconds)) continue;
    if (part.starts_with("ttft:")) limits.ttft_s = seconds;
    if (part.starts_with("tbt:")) limits.tbt_s = seconds;
    if (part.starts_with("e2e:")) limits.e2e_s = seconds;
  }
  return limits;
}

class BenchServe : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("--server", options_.target.address, "the server, of either protocol")
        ->required()
        ->transform(DialledAddress())
        ->type_name("HOST:PORT");
    app.add_option("--protocol", protocol_, "grpc, or http: OpenAI's /v1/completions, streamed")
        ->check(OneOf({"grpc", "http"}))
        ->type_name("NAME");
    AddApiKey(app, &options_.target.api_key);
    AddClientTls(app, &options_.target.tls);
    app.add_option("--served-model-name", options_.target.model, "which of its models")
        ->type_name("NAME");
    AddLoad(app);
    app.add_option("--requests", options_.requests, "requests of a run")
        ->transform(AtLeast(1))
        ->type_name("N");
    app.add_option("--duration", options_.duration_s, "send for this long, however many those are")
        ->transform(trireme::Seconds())
        ->default_str("")
        ->type_name("TIME");
    app.add_option("--warmup", options_.warmup, "requests before each run that do not count")
        ->transform(AtLeast(0))
        ->type_name("N");
    app.add_option("--goodput", goodput_,
                   "also count requests within these limits, such as ttft:200ms,tbt:50ms,e2e:10s; "
                   "tbt: of a request's mean")
        ->transform(Limits())
        ->type_name("LIMITS");
    app.add_option("--json-file", options_.json, "also write the figures to this file")
        ->type_name("FILE");
  }

  absl::Status Check() override {
    if (!options_.rates.empty() && !options_.concurrencies.empty()) {
      return InvalidArgument("expected --rate or --concurrency, not both");
    }
    return absl::OkStatus();
  }

  absl::Status Run() override {
    InitLog({.role = "bench"}, {.level = "warn"});
    options_.http = protocol_ == "http";
    options_.load.prompt_tokens = *ParseLengths(prompt_tokens_);
    options_.load.output_tokens = *ParseLengths(output_tokens_);
    options_.goodput = ParseLimits(goodput_);
    options_.progress = isatty(STDERR_FILENO);
    if (!trace_.empty()) {
      ASSIGN_OR_RETURN(const std::string jsonl, ReadFile(trace_));
      auto trace = ParseTrace(jsonl);
      if (!trace.ok()) return Annotate(trace.status(), trace_);
      options_.load.trace = *std::move(trace);
    }
    return RunServeBench(options_, std::cout);
  }

 private:
  void AddLoad(CLI::App& app) {
    AddList(app, "--rate", options_.rates, Rate(),
            "open loop: requests/s that arrive by themselves (Poisson), a run each")
        ->type_name("RATES");
    AddList(app, "--concurrency", options_.concurrencies, 1,
            "closed loop: clients that wait for their answers, a run each; default: 1")
        ->type_name("LIST");
    app.add_option("--prompt-tokens", prompt_tokens_, "N, or A..B: drawn uniformly")
        ->transform(Lengths())
        ->type_name("TOKENS");
    app.add_option("--output-tokens", output_tokens_,
                   "N, or A..B; the model's end does not end them")
        ->transform(Lengths())
        ->type_name("TOKENS");
    app.add_option("--shared-prefix", options_.load.shared_prefix,
                   "share of each prompt, from its begin, that all have in common")
        ->transform(Share())
        ->type_name("X");
    app.add_option(
           "--trace", trace_,
           "requests from this file instead, as JSON lines: `output_length`, `input_length` "
           "or a `prompt`, perhaps `hash_ids` and `timestamp` (ms), by which they are sent "
           "unless there is --rate or --concurrency")
        ->type_name("FILE");
    app.add_option("--temperature", options_.target.temperature, "0: greedy")
        ->transform(Number())
        ->type_name("X");
    app.add_option(
           "--seed", options_.load.seed,
           "of lengths, prompts and arrivals; a server's prefix cache knows a seed's prompts "
           "again")
        ->transform(Whole<uint64_t>())
        ->type_name("N");
  }

  ServeBenchOptions options_;
  std::string protocol_ = "grpc";
  std::string prompt_tokens_ = "128";
  std::string output_tokens_ = "32";
  std::string trace_;
  std::string goodput_;
};

}  // namespace

std::unique_ptr<Command> MakeBenchServe() { return std::make_unique<BenchServe>(); }

}  // namespace trireme
