#include "server/tracer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/log.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;
using WallTime = std::chrono::system_clock::time_point;

// opentelemetry/proto/trace/v1/trace.proto: SpanKind, StatusCode
constexpr int kInternal = 1, kServer = 2;
constexpr int kStatusError = 2;

// OTLP writes 64-bit integers as text.
std::string Nanoseconds(WallTime start, double after_s) {
  return StrCat(std::chrono::nanoseconds(start.time_since_epoch()).count() +
                std::llround(1e9 * after_s));
}

class Attributes {
 public:
  Attributes& Add(const char* key, const std::string& value) {
    return AddValue(key, {{"stringValue", value}});
  }
  Attributes& Add(const char* key, int64_t value) {
    return AddValue(key, {{"intValue", StrCat(value)}});
  }
  Attributes& Add(const char* key, double value) { return AddValue(key, {{"doubleValue", value}}); }
  Attributes& Add(const char* key, const std::vector<std::string>& values) {
    Json array = Json::array();
    for (const std::string& value : values) array.push_back({{"stringValue", value}});
    return AddValue(key, {{"arrayValue", {{"values", std::move(array)}}}});
  }
  template <typename T>
  Attributes& Add(const char* key, const std::optional<T>& value) {
    using Wide = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;
    return value.has_value() ? Add(key, static_cast<Wide>(*value)) : *this;
  }

  const Json& json() const { return json_; }

 private:
  Attributes& AddValue(const char* key, Json value) {
    json_.push_back({{"key", key}, {"value", std::move(value)}});
    return *this;
  }

  Json json_ = Json::array();
};

// "HOST:PORT", "[::1]:PORT" or "HOST".
void AddServer(const std::string& authority, Attributes& attributes) {
  if (authority.empty()) return;
  const size_t colon = authority.rfind(':');
  const bool has_port =
      colon != std::string::npos && authority.find(']', colon) == std::string::npos;
  int64_t port = 0;
  std::string host = authority.substr(0, has_port ? colon : std::string::npos);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  attributes.Add("server.address", host);
  if (has_port && ParseNumber(authority.substr(colon + 1), &port)) {
    attributes.Add("server.port", port);
  }
}

// What one request has come to.
class RequestSpans {
 public:
  RequestSpans(SpanExporter& exporter, const GenerateRequest& request, const std::string& model)
      : exporter_(exporter),
        trace_(request.trace),
        operation_(request.chat != nullptr ? "chat" : "text_completion"),
        model_(model) {
    attributes_.Add("gen_ai.operation.name", operation_)
        .Add("gen_ai.provider.name", std::string("trireme"))
        .Add("gen_ai.request.model", model)
        .Add("gen_ai.request.max_tokens", request.max_tokens)
        .Add("gen_ai.request.temperature", request.temperature)
        .Add("gen_ai.request.top_k", request.top_k)
        .Add("gen_ai.request.top_p", request.top_p)
        .Add("gen_ai.request.seed", request.seed)
        .Add("gen_ai.request.choice.count", request.n)
        .Add("gen_ai.request.frequency_penalty", request.frequency_penalty)
        .Add("gen_ai.request.presence_penalty", request.presence_penalty);
    AddServer(request.trace.authority, attributes_);
    const auto n = static_cast<uint32_t>(std::clamp(request.n.value_or(1), 1, kMaxChoices));
    for (uint32_t choice = 0; choice < n; ++choice) choices_[choice];
  }

  void Add(const Event& event) {
    if (const auto* accepted = std::get_if<Accepted>(&event)) {
      accepted_ = true;
      attributes_.Add("gen_ai.response.id", accepted->id).Add("gen_ai.response.model", model_);
    } else if (const auto* delta = std::get_if<Delta>(&event)) {
      Choice& choice = choices_[delta->choice];
      if (!choice.first_s.has_value() && !delta->ids.empty()) choice.first_s = Now();
      choice.n_ids += static_cast<int64_t>(delta->ids.size());
    } else if (const auto* finished = std::get_if<Finished>(&event)) {
      AddChoice(*finished);
      if (finished->last) End(finished->timings.total_s, /*error=*/"");
    } else if (const auto* status = std::get_if<absl::Status>(&event)) {
      const double now = Now();
      for (const auto& [choice, known] : choices_) {
        if (accepted_) AddUnfinished(choice, known, now);
        output_tokens_ += known.n_ids;
      }
      End(now, absl::StatusCodeToString(status->code()));
    }
  }

  void Add(const Progress& progress) {
    Choice& choice = choices_[progress.choice];
    const bool lost = progress.kind == Progress::kReplicaLost;
    const bool again = !lost && choice.handed_over_s.has_value();
    if (again) ++n_replays_;
    if (!lost && !again) choice.handed_over_s = Now();
    if (!lost && !again) return;
    events_.push_back({{"timeUnixNano", Nanoseconds(start_, Now())},
                       {"name", lost ? "replica lost" : "replayed"},
                       {"attributes", Attributes()
                                          .Add("trireme.choice", int64_t{progress.choice})
                                          .Add("trireme.link", static_cast<int64_t>(progress.link))
                                          .json()}});
  }

 private:
  // What is known of one that has not finished, in seconds since the request's start.
  struct Choice {
    std::optional<double> handed_over_s;
    std::optional<double> first_s;  // its first id
    int64_t n_ids = 0;
  };

  double Now() const {
    const std::chrono::duration<double> since = std::chrono::system_clock::now() - start_;
    return since.count();
  }

  void AddUnfinished(uint32_t choice, const Choice& known, double end_s) {
    const auto attributes = [&] { return Attributes().Add("trireme.choice", int64_t{choice}); };
    // One whose stream is not the first was handed over, or began, who knows when.
    if (known.handed_over_s.has_value() || !known.first_s.has_value()) {
      AddPhase("queue", 0, known.handed_over_s.value_or(end_s), attributes());
    }
    if (known.handed_over_s.has_value()) {
      AddPhase("prefill", *known.handed_over_s, known.first_s.value_or(end_s), attributes());
    }
    if (known.first_s.has_value()) {
      AddPhase("decode", *known.first_s, end_s,
               attributes().Add("gen_ai.usage.output_tokens", known.n_ids));
    }
  }

  void AddChoice(const Finished& finished) {
    const Timings& t = finished.timings;
    const Usage& usage = finished.usage;
    finish_reasons_.emplace_back(FinishReasonName(finished.reason));
    input_tokens_ = usage.prompt_tokens;
    output_tokens_ += usage.completion_tokens;
    const int64_t choice = finished.choice;
    const bool handed_over = choices_[finished.choice].handed_over_s.has_value();
    choices_.erase(finished.choice);
    AddPhase("queue", 0, t.queue_s, Attributes().Add("trireme.choice", choice));
    if (finished.reason == FinishReason::kDeadline && usage.completion_tokens == 0 &&
        !handed_over) {
      return;  // it never left the queue
    }
    const double first = usage.completion_tokens > 0 ? t.ttft_s : t.total_s;
    AddPhase("prefill", t.queue_s, first,
             Attributes()
                 .Add("trireme.choice", choice)
                 .Add("gen_ai.usage.input_tokens", int64_t{usage.prompt_tokens})
                 .Add("gen_ai.usage.cache_read.input_tokens", int64_t{usage.cached_tokens}));
    AddPhase("decode", first, t.total_s,
             Attributes()
                 .Add("trireme.choice", choice)
                 .Add("gen_ai.usage.output_tokens", int64_t{usage.completion_tokens}));
  }

  void AddPhase(const char* name, double begin_s, double end_s, const Attributes& attributes) {
    Json span = Span(name, NewSpanId(), trace_.span_id, kInternal, begin_s, end_s);
    span["attributes"] = attributes.json();
    exporter_.Add(std::make_shared<const Json>(std::move(span)));
  }

  void End(double total_s, const std::string& error) {
    Json span = Span(StrCat(operation_, " ", model_), trace_.span_id, trace_.parent_id, kServer, 0,
                     total_s);
    if (!finish_reasons_.empty()) {
      attributes_.Add("gen_ai.response.finish_reasons", finish_reasons_)
          .Add("gen_ai.usage.input_tokens", input_tokens_);
    }
    if (accepted_) {
      attributes_.Add("gen_ai.usage.output_tokens", output_tokens_)
          .Add("trireme.replays", n_replays_);
    }
    if (!events_.empty()) span["events"] = std::move(events_);
    if (!error.empty()) {
      attributes_.Add("error.type", error);
      span["status"] = {{"code", kStatusError}};
    }
    span["attributes"] = attributes_.json();
    exporter_.Add(std::make_shared<const Json>(std::move(span)));
  }

  Json Span(const std::string& name, const std::string& id, const std::string& parent, int kind,
            double begin_s, double end_s) const {
    Json span = {{"traceId", trace_.trace_id}, {"spanId", id}};
    if (!parent.empty()) span["parentSpanId"] = parent;
    span["name"] = name;
    span["kind"] = kind;
    span["startTimeUnixNano"] = Nanoseconds(start_, begin_s);
    span["endTimeUnixNano"] = Nanoseconds(start_, std::max(begin_s, end_s));
    return span;
  }

  SpanExporter& exporter_;
  const TraceContext trace_;
  const std::string operation_, model_;
  const WallTime start_ = std::chrono::system_clock::now();
  Attributes attributes_;
  Json events_ = Json::array();
  std::map<uint32_t, Choice> choices_;  // those that have not finished
  bool accepted_ = false;
  std::vector<std::string> finish_reasons_;
  int64_t input_tokens_ = 0, output_tokens_ = 0, n_replays_ = 0;
};

}  // namespace

RequestWatch WatchRequest(SpanExporter& exporter, const GenerateRequest& request,
                          const std::string& model, EventCallback on_event) {
  if (!request.trace.sampled || request.trace.trace_id.empty()) return {std::move(on_event), {}};
  const auto spans = std::make_shared<RequestSpans>(exporter, request, model);
  return {.on_event =
              [spans, on_event = std::move(on_event)](Event&& event) {
                spans->Add(event);
                on_event(std::move(event));
              },
          .on_progress = [spans](const Progress& progress) { spans->Add(progress); }};
}

// ---- To the collector.

SpanExporter::SpanExporter(Options options, HttpUrl url)
    : options_(std::move(options)), url_(std::move(url)), thread_([this] { Run(); }) {}

absl::StatusOr<std::unique_ptr<SpanExporter>> SpanExporter::Start(Options options) {
  ASSIGN_OR_RETURN(HttpUrl url, ParseHttpUrl(options.endpoint));
  while (url.path.ends_with('/')) url.path.pop_back();
  url.path += "/v1/traces";
  return std::unique_ptr<SpanExporter>(new SpanExporter(std::move(options), std::move(url)));
}

SpanExporter::~SpanExporter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.notify_all();
  thread_.join();
}

void SpanExporter::Add(SpanJson span) {
  std::lock_guard lock(mutex_);
  if (waiting_.size() >= options_.max_waiting) {
    ++n_dropped_;
    return;
  }
  waiting_.push_back(std::move(span));
  if (waiting_.size() == options_.batch) news_.notify_all();
}

void SpanExporter::Run() {
  bool stopping = false;
  while (true) {
    std::vector<SpanJson> spans;
    {
      std::unique_lock lock(mutex_);
      news_.wait_for(lock, options_.interval, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || (!down_ && waiting_.size() >= options_.batch);
      });
      stopping = stopping_;
      const size_t n = std::min(waiting_.size(), options_.batch);
      spans.assign(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n));
    }
    const bool taken = spans.empty() || Post(spans);
    std::lock_guard lock(mutex_);
    if (taken)
      waiting_.erase(waiting_.begin(),
                     waiting_.begin() + static_cast<std::ptrdiff_t>(spans.size()));
    if (stopping && (!taken || waiting_.empty())) return;
  }
}

// False if they are to be sent again.
bool SpanExporter::Post(const std::vector<SpanJson>& spans) {
  Json list = Json::array();
  for (const SpanJson& span : spans) list.push_back(*span);
  const Json resource = Attributes()
                            .Add("service.name", std::string("trireme"))
                            .Add("service.version", options_.version)
                            .json();
  const Json scope_spans = {{"scope", {{"name", "trireme"}}}, {"spans", std::move(list)}};
  const Json body = {
      {"resourceSpans", Json::array({{{"resource", {{"attributes", resource}}},
                                      {"scopeSpans", Json::array({scope_spans})}}})}};
  const auto answer = HttpPostJson(url_, body.dump(-1, ' ', false, Json::error_handler_t::replace),
                                   options_.timeout);
  // Those that OTLP says to try again.
  const bool again = !answer.ok() || *answer == 429 || (*answer >= 502 && *answer <= 504);
  const std::string why =
      !answer.ok() ? Message(answer.status()) : StrCat("it answers HTTP ", *answer);
  if (again && !down_) {
    spdlog::warn("the collector of spans at {} takes none ({}); they wait, {} at most",
                 options_.endpoint, why, options_.max_waiting);
  } else if (!again && *answer / 100 != 2) {
    spdlog::warn("the collector of spans at {} refuses {} spans: {}", options_.endpoint,
                 spans.size(), why);
  }
  std::lock_guard lock(mutex_);
  if (!again && (down_ || n_dropped_ > 0)) {
    spdlog::info("the collector of spans at {} takes them again; {} were dropped",
                 options_.endpoint, std::exchange(n_dropped_, 0));
  }
  down_ = again;
  return !again;
}

}  // namespace trireme
