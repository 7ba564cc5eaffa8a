// trireme generate: one completion. In this process (sharded, where mpirun started several), or by
// a server.
#include <cstdio>
#include <future>
#include <optional>

#include "base/file.h"
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/generation_output.h"
#include "launcher/rank.h"
#include "launcher/signals.h"
#include "launcher/validators.h"
#include "server/generate_client.h"
#include "server/local_controller.h"
#include "server/openai.h"

namespace trireme {
namespace {

class GenerateCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    replica_.Add(app, ReplicaFlags::Model::kOptional);
    app.add_option("--server", server_, "ask this server instead of loading a model")
        ->transform(DialledAddress())
        ->type_name("HOST:PORT");
    AddApiKey(app, &api_key_);
    AddClientTls(app, &tls_);
    app.add_option("--served-model-name", request_.model, "with --server: which of its models")
        ->type_name("NAME");
    app.add_option("--prompt", request_.text, "the text to go on from")->type_name("TEXT");
    AddList(app, "--prompt-ids", request_.ids, INT32_MIN, "the same as token ids, such as 1,2,3")
        ->type_name("IDS");
    app.add_option("--chat", chat_,
                   "answer a conversation instead: a JSON array of messages with role and content, "
                   "by the model's chat template")
        ->type_name("FILE");
    app.add_option("--max-tokens", request_.max_tokens,
                   "tokens to generate at most; default: what the context leaves")
        ->transform(Whole<int32_t>())
        ->type_name("N");
    app.add_option("--n", request_.n, "choices, each with draws of its own; default: 1")
        ->transform(AtLeast(1))
        ->type_name("N");
    app.add_option("--temperature", request_.temperature, "0: greedy; default: 1")
        ->transform(Number())
        ->type_name("X");
    app.add_option("--top-k", request_.top_k, "draw among the k most probable; default: all")
        ->transform(Whole<int32_t>())
        ->type_name("N");
    app.add_option("--top-p", request_.top_p, "draw among those that add up to this; default: 1")
        ->transform(Number())
        ->type_name("X");
    app.add_option("--min-p", request_.min_p,
                   "draw among those at least this times as probable as the first; default: 0")
        ->transform(Number())
        ->type_name("X");
    app.add_option("--repetition-penalty", request_.repetition_penalty,
                   "divides logits of ids in the prompt or generated; default: 1")
        ->transform(Number())
        ->type_name("X");
    app.add_option("--presence-penalty", request_.presence_penalty,
                   "taken from the logits of generated ids; default: 0")
        ->transform(Number())
        ->type_name("X");
    app.add_option("--frequency-penalty", request_.frequency_penalty,
                   "the same, times how often they were; default: 0")
        ->transform(Number())
        ->type_name("X");
    const auto read_bias = [this](const std::string& pairs) {
      for (const std::string& pair : SplitString(pairs, ',')) {
        const std::vector<std::string> parts = SplitString(pair, '=');
        int32_t id = 0;
        CHECK(ParseNumber(parts[0], &id) && ParseNumber(parts[1], &request_.logit_bias[id]));
      }
    };
    app.add_option_function<std::string>("--logit-bias", read_bias,
                                         "added to the logits of ids, such as 5=-100,7=2.5")
        ->transform(Biases())
        ->type_name("ID=X,…");
    app.add_option("--seed", request_.seed, "default: drawn; --json tells it")
        ->transform(Whole<uint64_t>())
        ->type_name("N");
    app.add_option("--stop", request_.stop, "end before this text; may be repeated")
        ->allow_extra_args(false)
        ->type_name("TEXT");
    app.add_flag("--ignore-eos", request_.ignore_eos, "go on past the model's end-of-text token");
    app.add_option("--dropout", request_.dropout, "Monte-Carlo dropout probability; default: 0")
        ->transform(Number())
        ->type_name("X");
    app.add_option("--logprobs", request_.logprobs,
                   "with --json: log probabilities of tokens, and of the N most probable ones")
        ->transform(AtLeast(0))
        ->type_name("N");
    app.add_option("--prompt-logprobs", request_.prompt_logprobs, "the same of the prompt's tokens")
        ->transform(AtLeast(0))
        ->type_name("N");
    app.add_option("--request-id", request_.request_id,
                   "its name at the server; the same request of the same name is not run again")
        ->type_name("ID");
    app.add_option("--detach", request_.detach_s,
                   "with --server: it goes on when this client goes, and waits so long for it")
        ->transform(Seconds())
        ->type_name("TIME");
    app.add_option("--reconnect", reconnect_s_,
                   "with --server: a stream that breaks is resumed, for so long; default: 0")
        ->transform(Seconds())
        ->type_name("TIME");
    app.add_flag("--json", json_, "print one JSON object at the end instead of the text");
    app.add_flag("--timings", timings_, "print how fast it was on stderr");
    AddLog(app, &log_);
  }

  absl::Status Check() override {
    const bool has_model = !replica_.model_dir().empty();
    if (has_model == !server_.empty()) return InvalidArgument("expected --model or --server");
    if (request_.text.has_value() + !request_.ids.empty() + !chat_.empty() != 1) {
      return InvalidArgument("expected --prompt, --prompt-ids or --chat");
    }
    if (!json_ && (request_.logprobs.has_value() || request_.prompt_logprobs.has_value())) {
      return InvalidArgument("--logprobs and --prompt-logprobs are for --json");
    }
    if (!has_model) {
      const std::string flag = replica_.FirstGiven();
      if (flag.empty()) return absl::OkStatus();
      return InvalidArgument(flag, " is for --model; the model of --server is loaded already");
    }
    if (!request_.model.empty()) return InvalidArgument("--served-model-name is for --server");
    return replica_.CheckRanks();
  }

  absl::Status Run() override {
    InitLog({.role = "generate"}, log_);
    RETURN_IF_ERROR(ReadChat());
    interruption_.emplace();  // before other threads
    return server_.empty() ? RunHere() : Ask();
  }

 private:
  absl::Status ReadChat();
  absl::Status RunHere();
  absl::Status AskReplica(ReplicaRank& rank);
  absl::Status Ask();
  absl::Status Result(const GenerationOutput& output) const;

  ReplicaFlags replica_;
  std::string server_;
  std::string api_key_;
  ClientTls tls_;
  GenerateRequest request_;
  std::string chat_;
  double reconnect_s_ = 0;
  bool json_ = false;
  bool timings_ = false;
  LogOptions log_{.level = "warn"};
  std::optional<Interruption> interruption_;
};

absl::Status GenerateCommand::ReadChat() {
  if (chat_.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string json, ReadFile(chat_));
  auto chat = ParseMessages(json);
  if (!chat.ok()) return Annotate(chat.status(), chat_);
  request_.chat = *std::move(chat);
  return absl::OkStatus();
}

absl::Status GenerateCommand::RunHere() {
  ASSIGN_OR_RETURN(std::unique_ptr<World> world, JoinWorld());
  ASSIGN_OR_RETURN(std::unique_ptr<ReplicaRank> rank, LoadRank(replica_.Options(), *world));
  if (world->rank() == 0) return AskReplica(*rank);
  rank->Run();
  return absl::OkStatus();
}

// The engine runs on this thread, the controller on its own.
absl::Status GenerateCommand::AskReplica(ReplicaRank& rank) {
  Replica& replica = rank.replica();
  auto controller = LocalController::Start(replica);
  if (!controller.ok()) {
    replica.Stop();
    rank.Run();  // sends the other ranks home
    return controller.status();
  }
  GenerationOutput output(json_, stdout, request_.n.value_or(1));
  const uint64_t key = (*controller)->Generate(request_, [&](Event&& event) {
    output.Add(event);
    if (output.ended()) replica.Stop();
  });
  interruption_->Becomes([&] { (*controller)->Cancel(key); });
  rank.Run();
  interruption_->Becomes({});
  controller->reset();
  return Result(output);
}

absl::Status GenerateCommand::Ask() {
  GenerationOutput output(json_, stdout, request_.n.value_or(1));
  std::promise<void> ended;
  ASSIGN_OR_RETURN(auto channel, Dial(server_, tls_));
  // Its destructor waits for the last call back.
  GenerateClient client(
      {.channel = std::move(channel), .api_key = api_key_, .reconnect = FromSeconds(reconnect_s_)});
  const uint64_t key = client.Generate(request_, [&](Event&& event) {
    output.Add(event);
    if (output.ended()) ended.set_value();
  });
  interruption_->Becomes([&] { client.Cancel(key); });
  ended.get_future().wait();
  interruption_->Becomes({});
  absl::Status result = Explain(Result(output), tls_);
  if (result.ok() || absl::IsCancelled(result)) return result;
  return Annotate(result, StrCat(server_, ": ", absl::StatusCodeToString(result.code())));
}

absl::Status GenerateCommand::Result(const GenerationOutput& output) const {
  if (!output.status().ok() || !timings_) return output.status();
  const Timings& timings = output.finished().timings;
  std::fprintf(stderr, "%d tokens, the first after %.1f ms",
               output.finished().usage.completion_tokens, 1e3 * timings.ttft_s);
  if (timings.tbt_s_mean > 0) std::fprintf(stderr, ", then %.0f tokens/s", 1 / timings.tbt_s_mean);
  std::fprintf(stderr, "\n");
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Command> MakeGenerate() { return std::make_unique<GenerateCommand>(); }

}  // namespace trireme
