// Spans of requests, told to an OpenTelemetry collector: OTLP over HTTP, in JSON
// (opentelemetry.io/docs/specs/otlp), with the names of the semantic conventions for generative AI
// (opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans).
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "nlohmann/json_fwd.hpp"
#include "server/api.h"
#include "server/http_post.h"

namespace trireme {

// One span as OTLP's JSON has it.
using SpanJson = std::shared_ptr<const nlohmann::ordered_json>;

// Sends spans from a thread of its own. A collector that does not answer costs a line in the log:
// spans wait for it up to a bound, beyond which new ones are dropped.
class SpanExporter {
 public:
  struct Options {
    std::string endpoint;                      // http://HOST:PORT; spans go to its /v1/traces
    std::string version;                       // of the program
    size_t max_waiting = 8192;                 // spans
    size_t batch = 512;                        // spans of one POST
    std::chrono::milliseconds interval{1000};  // to wait for more, and to try again
    std::chrono::milliseconds timeout{5000};   // of each step of a POST
  };

  // INVALID_ARGUMENT if the endpoint is none.
  static absl::StatusOr<std::unique_ptr<SpanExporter>> Start(Options options);
  ~SpanExporter();  // what waits is sent, if the collector answers

  // From any thread; never blocks.
  void Add(SpanJson span);

 private:
  SpanExporter(Options options, HttpUrl url);
  void Run();
  bool Post(const std::vector<SpanJson>& spans);

  const Options options_;
  const HttpUrl url_;
  bool down_ = false;  // the thread's own: the collector did not answer
  std::mutex mutex_;
  std::condition_variable news_;  // of `stopping_`, or of a whole batch
  std::deque<SpanJson> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t n_dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// Tells `on_event`, and when it has told the last event, `exporter` the request's spans: the whole,
// with the losses of its replicas as events, and of each choice the time in the queue, of prefill
// and of decode, as far as it came. `model`: its name.
RequestWatch WatchRequest(SpanExporter& exporter, const GenerateRequest& request,
                          const std::string& model, EventCallback on_event);

}  // namespace trireme
