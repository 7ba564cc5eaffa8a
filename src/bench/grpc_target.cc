#include <utility>

#include "bench/target.h"
#include "server/generate_client.h"
#include "server/grpc_tls.h"

namespace trireme {
namespace {

void WriteDown(const Event& event, const ClientTls& tls, Timeline& timeline) {
  const Time now = std::chrono::steady_clock::now();
  if (const auto* delta = std::get_if<Delta>(&event)) {
    timeline.Tokens(now, static_cast<int32_t>(delta->ids.size()));
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    timeline.prompt_tokens = finished->usage.prompt_tokens;
    timeline.server_queue_s = finished->timings.queue_s;
  } else if (const auto* status = std::get_if<absl::Status>(&event)) {
    timeline.error_kind = absl::StatusCodeToString(status->code());
    timeline.error = Message(Explain(*status, tls));
  }
  if (IsLast(event)) timeline.ended = now;
}

class GrpcTarget : public Target {
 public:
  GrpcTarget(const TargetOptions& options, std::shared_ptr<grpc::Channel> channel)
      : options_(options), client_({.channel = std::move(channel), .api_key = options.api_key}) {}

  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text) override {
    auto ids = client_.Tokenize(options_.model, text);
    if (!ids.ok()) return Annotate(Explain(ids.status(), options_.tls), options_.address);
    return ids;
  }

  void Send(LoadRequest load, Timeline* timeline, std::function<void()> done) override {
    GenerateRequest request;
    request.model = options_.model;
    request.text = std::move(load.text);
    request.ids = std::move(load.ids);
    request.max_tokens = load.output_tokens;
    request.ignore_eos = true;
    request.temperature = options_.temperature;
    request.seed = load.seed;
    client_.Generate(request, [this, timeline, done = std::move(done)](Event&& event) {
      WriteDown(event, options_.tls, *timeline);
      if (IsLast(event)) done();
    });
  }

 private:
  const TargetOptions options_;
  GenerateClient client_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Target>> MakeGrpcTarget(const TargetOptions& options) {
  ASSIGN_OR_RETURN(auto channel, Dial(options.address, options.tls));
  return std::make_unique<GrpcTarget>(options, std::move(channel));
}

}  // namespace trireme
