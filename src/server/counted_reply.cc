#include "server/counted_reply.h"

#include <array>
#include <utility>

namespace trireme {
namespace {

constexpr std::array<std::string_view, 11> kPaths = {"/v1/chat/completions",
                                                     "/v1/completions",
                                                     "/v1/models",
                                                     "/tokenize",
                                                     "/detokenize",
                                                     "/health",
                                                     "/live",
                                                     "/ready",
                                                     "/metrics",
                                                     "/version",
                                                     "/v1/models/{model}"};

// One of kPaths or "other": whoever asks for nonsense makes no series.
std::string_view NameOf(std::string_view path) {
  if (path.starts_with("/v1/models/")) return kPaths.back();
  for (std::string_view known : kPaths) {
    if (path == known) return known;
  }
  return "other";
}

class Counted : public HttpReply {
 public:
  Counted(Metrics& metrics, std::string_view path, std::shared_ptr<HttpReply> reply)
      : metrics_(metrics), path_(path), reply_(std::move(reply)) {}

  void Send(HttpAnswer answer) override {
    metrics_.AddHttp(path_, answer.status);
    reply_->Send(std::move(answer));
  }
  void Stream(HttpAnswer answer, std::function<Chunk()> next) override {
    metrics_.AddHttp(path_, answer.status);
    reply_->Stream(std::move(answer), std::move(next));
  }
  void Wake() override { reply_->Wake(); }
  void OnGone(std::function<void()> gone) override { reply_->OnGone(std::move(gone)); }

 private:
  Metrics& metrics_;
  const std::string_view path_;
  const std::shared_ptr<HttpReply> reply_;
};

}  // namespace

std::shared_ptr<HttpReply> CountedReply(Metrics& metrics, std::string_view path,
                                        std::shared_ptr<HttpReply> reply) {
  return std::make_shared<Counted>(metrics, NameOf(path), std::move(reply));
}

}  // namespace trireme
