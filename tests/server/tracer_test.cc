// Spans as a collector receives them.
#include "server/tracer.h"

#include <future>
#include <mutex>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/http_server.h"

namespace trireme {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

// Takes POSTs, or does not while it is told to refuse them.
class FakeCollector {
 public:
  FakeCollector() {
    auto server =
        HttpServer::Start({}, [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
          std::lock_guard lock(mutex_);
          ++n_posts_;
          if (status_ == 200) {
            EXPECT_EQ(request.path, "/v1/traces");
            EXPECT_EQ(request.headers["content-type"], "application/json");
            const Json body = Json::parse(request.body);
            for (const Json& span : body["resourceSpans"][0]["scopeSpans"][0]["spans"]) {
              spans_.push_back(span);
            }
            resource_ = body["resourceSpans"][0]["resource"];
          }
          reply->Send({.status = status_, .body = "{}"});
          news_.notify_all();
        });
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  std::unique_ptr<SpanExporter> Exporter(SpanExporter::Options options = {}) const {
    options.endpoint = "http://" + server_->address() + "/";
    options.version = "1.2";
    options.interval = std::chrono::milliseconds(1);
    return *SpanExporter::Start(std::move(options));
  }

  void Answer(int status) {
    std::lock_guard lock(mutex_);
    status_ = status;
  }
  std::vector<Json> WaitSpans(size_t n) {
    std::unique_lock lock(mutex_);
    news_.wait(lock, [&] { return spans_.size() >= n; });
    return spans_;
  }
  void WaitPosts(int n) {
    std::unique_lock lock(mutex_);
    news_.wait(lock, [&] { return n_posts_ >= n; });
  }
  Json resource() {
    std::lock_guard lock(mutex_);
    return resource_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable news_;
  std::vector<Json> spans_;
  Json resource_;
  int status_ = 200, n_posts_ = 0;
  std::unique_ptr<HttpServer> server_;
};

SpanJson Named(const std::string& name) {
  return std::make_shared<const nlohmann::ordered_json>(nlohmann::ordered_json{{"name", name}});
}

std::map<std::string, Json> Attributes(const Json& span) {
  std::map<std::string, Json> attributes;
  for (const Json& attribute : span["attributes"]) {
    attributes[attribute["key"]] = attribute["value"].begin().value();
  }
  return attributes;
}

int64_t Nanoseconds(const Json& span, const char* which) {
  int64_t value = 0;
  EXPECT_TRUE(ParseNumber(span[which].get<std::string>(), &value));
  return value;
}

// Of a request to `model` m whose events are `events`.
std::vector<Json> SpansOf(const GenerateRequest& request, std::vector<Event> events, size_t n) {
  FakeCollector collector;
  auto exporter = collector.Exporter();
  size_t n_told = 0;
  const auto watched = WatchRequest(*exporter, request, "m", [&](Event&&) { ++n_told; });
  for (Event& event : events) watched.on_event(std::move(event));
  EXPECT_EQ(n_told, events.size());
  return collector.WaitSpans(n);
}

// Of one that comes to what `happens` tells, by name; `n` of them.
std::multimap<std::string, Json> SpansOf(const GenerateRequest& request, size_t n,
                                         const std::function<void(const RequestWatch&)>& happens) {
  FakeCollector collector;
  auto exporter = collector.Exporter();
  happens(WatchRequest(*exporter, request, "m", [](Event&&) {}));
  exporter.reset();  // has sent them all
  std::multimap<std::string, Json> by_name;
  for (const Json& span : collector.WaitSpans(n)) by_name.emplace(span["name"], span);
  EXPECT_EQ(by_name.size(), n);
  return by_name;
}

GenerateRequest Traced() {
  GenerateRequest request;
  request.trace = ContinueTrace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  request.max_tokens = 9;
  request.temperature = 0.5;
  request.frequency_penalty = 0.5f;
  request.trace.authority = "[::1]:80";
  request.text = "secret";
  return request;
}

TEST(TracerTest, ARequestHasASpanAndItsPhases) {
  const GenerateRequest request = Traced();
  const Finished finished{.reason = FinishReason::kLength,
                          .usage = {.prompt_tokens = 7, .completion_tokens = 9, .cached_tokens = 4},
                          .timings = {.queue_s = 1, .ttft_s = 3, .total_s = 7}};
  const auto spans = SpansOf(request, {Accepted{.id = "r1"}, finished}, 4);
  ASSERT_EQ(spans.size(), 4u);
  const Json &queue = spans[0], &prefill = spans[1], &decode = spans[2], &whole = spans[3];
  for (const Json& span : spans) {
    EXPECT_EQ(span["traceId"], request.trace.trace_id);
    EXPECT_THAT(span.dump(), testing::Not(HasSubstr("secret")));
  }
  EXPECT_EQ(whole["spanId"], request.trace.span_id);
  EXPECT_EQ(whole["parentSpanId"], "00f067aa0ba902b7");
  EXPECT_EQ(whole["name"], "text_completion m");
  EXPECT_EQ(whole["kind"], 2);
  const int64_t start = Nanoseconds(whole, "startTimeUnixNano");
  const auto seconds = [&](const Json& span) {
    const double scale = 1e-9;
    return std::pair(static_cast<double>(Nanoseconds(span, "startTimeUnixNano") - start) * scale,
                     static_cast<double>(Nanoseconds(span, "endTimeUnixNano") - start) * scale);
  };
  EXPECT_EQ(queue["name"], "queue");
  EXPECT_EQ(prefill["name"], "prefill");
  EXPECT_EQ(decode["name"], "decode");
  EXPECT_EQ(queue["parentSpanId"], request.trace.span_id);
  EXPECT_EQ(seconds(queue), std::pair(0.0, 1.0));
  EXPECT_EQ(seconds(prefill), std::pair(1.0, 3.0));
  EXPECT_EQ(seconds(decode), std::pair(3.0, 7.0));
  EXPECT_EQ(seconds(whole), std::pair(0.0, 7.0));
  auto attributes = Attributes(whole);
  EXPECT_EQ(attributes["gen_ai.operation.name"], "text_completion");
  EXPECT_EQ(attributes["gen_ai.request.model"], "m");
  EXPECT_EQ(attributes["gen_ai.request.max_tokens"], "9");
  EXPECT_EQ(attributes["gen_ai.request.temperature"], 0.5);
  EXPECT_EQ(attributes["gen_ai.request.frequency_penalty"], 0.5);
  EXPECT_FALSE(attributes.contains("gen_ai.request.presence_penalty"));
  EXPECT_EQ(attributes["gen_ai.response.id"], "r1");
  EXPECT_EQ(attributes["gen_ai.response.model"], "m");
  EXPECT_EQ(attributes["server.address"], "::1");
  EXPECT_EQ(attributes["server.port"], "80");
  EXPECT_EQ(attributes["trireme.replays"], "0");
  EXPECT_EQ(attributes["gen_ai.usage.input_tokens"], "7");
  EXPECT_EQ(attributes["gen_ai.usage.output_tokens"], "9");
  EXPECT_EQ(attributes["gen_ai.response.finish_reasons"]["values"][0]["stringValue"], "length");
  EXPECT_EQ(Attributes(prefill)["gen_ai.usage.cache_read.input_tokens"], "4");
  EXPECT_FALSE(whole.contains("status"));
}

TEST(TracerTest, ARequestThatFailsSaysAsWhat) {
  const auto spans = SpansOf(Traced(), {absl::UnavailableError("secret")}, 1);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0]["status"]["code"], 2);
  EXPECT_EQ(Attributes(spans[0])["error.type"], "UNAVAILABLE");
  EXPECT_THAT(spans[0].dump(), testing::Not(HasSubstr("secret")));
}

TEST(TracerTest, WhatWaitedToItsEndHasWaited) {
  const auto spans = SpansOf(Traced(), 2, [](const RequestWatch& watch) {
    watch.on_event(Accepted{.id = "r1"});
    watch.on_event(Waiting{.reason = "secret"});
    watch.on_event(absl::CancelledError("secret"));
  });
  const Json &queue = spans.find("queue")->second, &whole = spans.find("text_completion m")->second;
  EXPECT_EQ(queue["parentSpanId"], whole["spanId"]);
  EXPECT_EQ(queue["startTimeUnixNano"], whole["startTimeUnixNano"]);
  EXPECT_EQ(queue["endTimeUnixNano"], whole["endTimeUnixNano"]);
  EXPECT_EQ(Attributes(whole)["error.type"], "CANCELLED");
}

TEST(TracerTest, ADeadlineInTheQueueIsTheEndOfThat) {
  const auto spans = SpansOf(Traced(), 2, [](const RequestWatch& watch) {
    watch.on_event(Accepted{});
    watch.on_event(
        Finished{.reason = FinishReason::kDeadline, .timings = {.queue_s = 2, .total_s = 2}});
  });
  EXPECT_EQ(spans.count("queue"), 1u);
}

TEST(TracerTest, ARequestThatFailsHasThePhasesThatItCameTo) {
  GenerateRequest request = Traced();
  request.n = 3;  // one that ends, one that has begun, one that has not
  const auto spans = SpansOf(request, 9, [](const RequestWatch& watch) {
    watch.on_event(Accepted{});
    for (uint32_t choice : {0u, 1u, 2u}) {
      watch.on_progress({.kind = Progress::kHandedOver, .choice = choice, .link = 7});
    }
    watch.on_event(Delta{.choice = 0, .ids = {1}});
    watch.on_event(Delta{.choice = 1, .ids = {1, 2}});
    watch.on_event(Finished{
        .choice = 0, .usage = {.prompt_tokens = 3, .completion_tokens = 1}, .last = false});
    watch.on_event(absl::InternalError("secret"));
  });
  EXPECT_EQ(spans.count("queue"), 3u);
  EXPECT_EQ(spans.count("prefill"), 3u);
  EXPECT_EQ(spans.count("decode"), 2u);
  const Json& whole = spans.find("text_completion m")->second;
  EXPECT_EQ(Attributes(whole)["gen_ai.usage.output_tokens"], "3");
  for (const auto& [name, span] : spans) {
    EXPECT_GE(Nanoseconds(span, "endTimeUnixNano"), Nanoseconds(span, "startTimeUnixNano"));
    if (name == "decode" && Attributes(span)["trireme.choice"] == "1") {
      EXPECT_EQ(Attributes(span)["gen_ai.usage.output_tokens"], "2");
    }
  }
}

TEST(TracerTest, ALossIsAnEvent) {
  const auto spans = SpansOf(Traced(), 4, [](const RequestWatch& watch) {
    watch.on_event(Accepted{});
    watch.on_progress({.kind = Progress::kHandedOver, .choice = 0, .link = 7});
    watch.on_progress({.kind = Progress::kReplicaLost, .choice = 0, .link = 7});
    watch.on_progress({.kind = Progress::kHandedOver, .choice = 0, .link = 8});
    watch.on_event(Finished{.usage = {.completion_tokens = 1}});
  });
  const Json& whole = spans.find("text_completion m")->second;
  ASSERT_EQ(whole["events"].size(), 2u);
  const Json &lost = whole["events"][0], &replayed = whole["events"][1];
  EXPECT_EQ(lost["name"], "replica lost");
  EXPECT_EQ(Attributes(lost)["trireme.link"], "7");
  EXPECT_EQ(replayed["name"], "replayed");
  EXPECT_EQ(Attributes(replayed)["trireme.link"], "8");
  EXPECT_GE(Nanoseconds(replayed, "timeUnixNano"), Nanoseconds(whole, "startTimeUnixNano"));
  EXPECT_EQ(Attributes(whole)["trireme.replays"], "1");
}

TEST(TracerTest, WhatTheCallerDoesNotRecordIsNotToldOf) {
  FakeCollector collector;
  auto exporter = collector.Exporter();
  GenerateRequest request = Traced();
  request.trace.sampled = false;
  const RequestWatch watch = WatchRequest(*exporter, request, "m", [](Event&&) {});
  watch.on_event(Finished());
  EXPECT_FALSE(watch.on_progress);
  exporter->Add(Named("another"));
  EXPECT_EQ(collector.WaitSpans(1).size(), 1u);
}

TEST(SpanExporterTest, SendsAgainWhatACollectorCouldNotTake) {
  FakeCollector collector;
  collector.Answer(503);
  auto exporter = collector.Exporter({.max_waiting = 3});
  for (const char* name : {"a", "b", "c", "one too many"}) exporter->Add(Named(name));
  collector.WaitPosts(2);
  collector.Answer(200);
  exporter.reset();  // has sent what waited
  const auto spans = collector.WaitSpans(3);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0]["name"], "a");
  EXPECT_EQ(spans[2]["name"], "c");
  EXPECT_EQ(collector.resource()["attributes"][1]["value"]["stringValue"], "1.2");
}

TEST(SpanExporterTest, DropsWhatACollectorRefuses) {
  FakeCollector collector;
  collector.Answer(400);
  auto exporter = collector.Exporter();
  exporter->Add(Named("a"));
  collector.WaitPosts(1);
  collector.Answer(200);
  exporter->Add(Named("b"));
  EXPECT_EQ(collector.WaitSpans(1)[0]["name"], "b");
}

TEST(SpanExporterTest, SendsTheRestAtItsEnd) {
  FakeCollector collector;
  for (int i = 0; i < 5; ++i) {
    collector.Exporter({.batch = 2})->Add(Named("a"));
    EXPECT_EQ(collector.WaitSpans(static_cast<size_t>(i) + 1).size(), static_cast<size_t>(i) + 1);
  }
}

TEST(SpanExporterTest, IsGoneSoonWithoutACollector) {
  auto exporter = SpanExporter::Start({.endpoint = "http://127.0.0.1:1", .version = ""});
  ASSERT_TRUE(exporter.ok());
  (*exporter)->Add(Named("a"));
}

TEST(HttpUrlTest, SaysWhatIsNone) {
  const auto parsed = ParseHttpUrl("http://collector:4318/otlp");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->host + " " + parsed->port + " " + parsed->path, "collector 4318 /otlp");
  EXPECT_EQ(ParseHttpUrl("http://[::1]:4318")->host, "[::1]");
  EXPECT_EQ(ParseHttpUrl("http://collector")->port, "80");
  for (const char* wrong : {"", "collector:4318", "https://collector", "http://", "http://:1",
                            "http://a:0", "http://a:99999", "http://a:b", "http://a/b c"}) {
    EXPECT_THAT(Message(ParseHttpUrl(wrong).status()), HasSubstr("expected http://HOST:PORT"));
  }
}

}  // namespace
}  // namespace trireme
