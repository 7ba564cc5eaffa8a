#include <utility>

#include "bench/target.h"
#include "server/generate_client.h"
#include "server/grpc_tls.h"

namespace trireme {
namespace {

void WriteDown(const Event& event, Timeline& timeline) {
  const Time now = std::chrono::steady_clock::now();
  if (const auto* delta = std::get_if<Delta>(&event)) {
    timeline.Tokens(now, static_cast<int32_t>(delta->ids.size()));
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    timeline.prompt_tokens = finished->usage.prompt_tokens;
    timeline.server_queue_s = finished->timings.queue_s;
  } else if (const auto* status = std::get_if<absl::Status>(&event)) {
    timeline.error_kind = absl::StatusCodeToString(status->code());
    timeline.error = Message(*status);
  }
  if (IsLast(event)) timeline.ended = now;
}

class GrpcTarget : public Target {
 public:
  explicit GrpcTarget(const TargetOptions& options)
      : options_(options),
        client_({.channel = Dial(options.address, ClientTls(), TlsPem()),
                 .api_key = options.api_key}) {}

  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text) override {
    auto ids = client_.Tokenize(options_.model, text);
    if (!ids.ok()) return Annotate(ids.status(), options_.address);
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
    client_.Generate(request, [timeline, done = std::move(done)](Event&& event) {
      WriteDown(event, *timeline);
      if (IsLast(event)) done();
    });
  }

 private:
  const TargetOptions options_;
  GenerateClient client_;
};

}  // namespace

std::unique_ptr<Target> MakeGrpcTarget(const TargetOptions& options) {
  return std::make_unique<GrpcTarget>(options);
}

}  // namespace trireme
