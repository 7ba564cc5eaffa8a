#include "server/metrics.h"

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>
#include <vector>

#include "prometheus/histogram.h"
#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"

namespace trireme {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Buckets = prometheus::Histogram::BucketBoundaries;

Buckets FirstToken() {
  return {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
          1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
}
Buckets TokenLatency() {
  return {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
}
Buckets Phases() {
  return {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
          30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
}
Buckets Tokens() {
  Buckets buckets;
  for (double decade = 1; decade < 1e6; decade *= 10) {
    for (double step : {1, 2, 5}) buckets.push_back(decade * step);
  }
  return buckets;
}
Buckets Choices() { return {1, 2, 5, 10, 20}; }

struct HistogramKind {
  Measure measure;
  const char* name;
  const char* help;
  Buckets (*buckets)();
};

constexpr std::array kHistograms = {
    HistogramKind{Measure::kTimeToFirstToken, "time_to_first_token_seconds",
                  "From a request's arrival to the first token of a choice.", FirstToken},
    HistogramKind{Measure::kInterTokenLatency, "inter_token_latency_seconds",
                  "Between tokens of a choice, averaged over those that came together.",
                  TokenLatency},
    HistogramKind{Measure::kTimePerOutputToken, "request_time_per_output_token_seconds",
                  "From the first token of a choice to its last, per token after the first.",
                  TokenLatency},
    HistogramKind{Measure::kEndToEnd, "e2e_request_latency_seconds",
                  "From a request's arrival to its end.", Phases},
    HistogramKind{Measure::kQueueTime, "request_queue_time_seconds",
                  "From a request's arrival to the hand-over of a choice to a replica.", Phases},
    HistogramKind{Measure::kPrefillTime, "request_prefill_time_seconds",
                  "From the hand-over of a choice to its first token.", Phases},
    HistogramKind{Measure::kDecodeTime, "request_decode_time_seconds",
                  "From the first token of a choice to its last.", Phases},
    HistogramKind{Measure::kPromptTokens, "request_prompt_tokens", "Tokens of a request's prompt.",
                  Tokens},
    HistogramKind{Measure::kGenerationTokens, "request_generation_tokens",
                  "Tokens generated for a choice.", Tokens},
    HistogramKind{Measure::kChoices, "request_params_n", "Choices that a request asks for.",
                  Choices},
};

ClientMetric Labelled(const std::string& model) {
  ClientMetric metric;
  metric.label.push_back({"model_name", model});
  return metric;
}

// Families by name, in the order in which they were first named.
class Families {
 public:
  explicit Families(const std::string& prefix) : prefix_(prefix) {}

  void Add(const std::string& name, const char* help, MetricType type, ClientMetric metric) {
    auto it = std::find_if(families_.begin(), families_.end(),
                           [&](const MetricFamily& f) { return f.name == prefix_ + name; });
    if (it == families_.end()) {
      MetricFamily family;
      family.name = prefix_ + name;
      family.help = help;
      family.type = type;
      it = families_.insert(it, std::move(family));
    }
    it->metric.push_back(std::move(metric));
  }
  void Gauge(const std::string& name, const char* help, ClientMetric metric, double value) {
    metric.gauge.value = value;
    Add(name, help, MetricType::Gauge, std::move(metric));
  }
  void Counter(const std::string& name, const char* help, ClientMetric metric, double value) {
    metric.counter.value = value;
    Add(name + "_total", help, MetricType::Counter, std::move(metric));
  }

  std::string Text() const {
    std::ostringstream text;
    prometheus::TextSerializer().Serialize(text, families_);
    return text.str();
  }

 private:
  const std::string prefix_;
  std::vector<MetricFamily> families_;
};

void AddReplica(const LinkedReplica& replica, Families& families) {
  // A replica that comes back is another series: its counters begin at 0 again.
  ClientMetric own = Labelled(replica.info.model);
  own.label.push_back({"engine", StrCat(replica.link)});
  const ReplicaStats& stats = replica.stats;
  const double share = stats.kv_blocks_total == 0 ? 0
                                                  : static_cast<double>(stats.kv_blocks_used) /
                                                        static_cast<double>(stats.kv_blocks_total);
  families.Gauge("kv_cache_usage_perc", "KV blocks that sequences hold, of all: 0 to 1.", own,
                 share);
  families.Counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", own,
                   static_cast<double>(stats.prefix_queries));
  families.Counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.", own,
                   static_cast<double>(stats.prefix_hits));
  families.Counter("num_preemptions", "Sequences whose KV blocks were taken for others.", own,
                   static_cast<double>(stats.preemptions));
  ClientMetric config = own;
  config.label.push_back({"block_size", StrCat(replica.info.kv_block_size)});
  config.label.push_back({"num_gpu_blocks", StrCat(stats.kv_blocks_total)});
  families.Gauge("cache_config_info", "The KV cache.", config, 1);
}

}  // namespace

struct Metrics::Model {
  std::vector<std::unique_ptr<prometheus::Histogram>> histograms;  // as kHistograms
  double prompt_tokens = 0;
  double generation_tokens = 0;
  std::map<std::string, double> ended;  // by reason
};

Metrics::Metrics(std::string prefix) : prefix_(std::move(prefix)) {}
Metrics::~Metrics() = default;

Metrics::Model& Metrics::Of(const std::string& name) {
  std::unique_ptr<Model>& model = models_[name];
  if (model == nullptr) {
    model = std::make_unique<Model>();
    for (const HistogramKind& kind : kHistograms) {
      model->histograms.push_back(std::make_unique<prometheus::Histogram>(kind.buckets()));
    }
  }
  return *model;
}

void Metrics::Add(const Observe& observed) {
  std::lock_guard lock(mutex_);
  Model& model = Of(observed.model->name);
  for (size_t i = 0; i < kHistograms.size(); ++i) {
    if (kHistograms[i].measure == observed.what) model.histograms[i]->Observe(observed.value);
  }
  if (observed.what == Measure::kPromptTokens) model.prompt_tokens += observed.value;
  if (observed.what == Measure::kNewTokens) model.generation_tokens += observed.value;
  if (observed.what == Measure::kEnded) ++model.ended[std::string(observed.reason)];
}

std::string Metrics::Render(const Controller& controller) const {
  Families families(prefix_);
  std::map<std::string, double> running, waiting;
  for (const auto& [model, n] : controller.n_waiting_by_model()) {
    waiting[model] += static_cast<double>(n);
  }
  std::lock_guard lock(mutex_);
  for (const auto& [link, replica] : controller.replicas()) {
    running[replica.info.model] += replica.stats.running;
    waiting[replica.info.model] += replica.stats.waiting;
    AddReplica(replica, families);
  }
  for (const auto& [name, model] : models_) running[name] += 0, waiting[name] += 0;
  for (const auto& [name, n] : running) {
    families.Gauge("num_requests_running", "Sequences that hold KV blocks.", Labelled(name), n);
  }
  for (const auto& [name, n] : waiting) {
    families.Gauge("num_requests_waiting", "Sequences that wait, in the controller or a replica.",
                   Labelled(name), n);
  }
  for (const auto& [name, model] : models_) {
    families.Counter("prompt_tokens", "Tokens of accepted prompts.", Labelled(name),
                     model->prompt_tokens);
    families.Counter("generation_tokens", "Tokens generated.", Labelled(name),
                     model->generation_tokens);
    for (const auto& [reason, n] : model->ended) {
      ClientMetric metric = Labelled(name);
      metric.label.push_back({"finished_reason", reason});
      families.Counter("request_success", "Requests that have ended, by reason.", metric, n);
    }
    for (size_t i = 0; i < kHistograms.size(); ++i) {
      ClientMetric metric = model->histograms[i]->Collect();
      metric.label.push_back({"model_name", name});
      families.Add(kHistograms[i].name, kHistograms[i].help, MetricType::Histogram,
                   std::move(metric));
    }
  }
  const RequestCounters& counters = controller.counters();
  families.Counter("replicas_lost", "Replicas that were lost.", {},
                   static_cast<double>(counters.replicas_lost));
  families.Counter("requests_replayed", "Hand-overs to another replica after a loss.", {},
                   static_cast<double>(counters.replayed));
  families.Counter("requests_refused", "Requests that ended before they were accepted.", {},
                   static_cast<double>(counters.refused));
  families.Gauge("replicas_ready", "Replicas that are linked.", {},
                 static_cast<double>(controller.replicas().size()));
  return families.Text();
}

}  // namespace trireme
