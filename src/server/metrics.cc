#include "server/metrics.h"

#include <array>
#include <utility>
#include <vector>

#include "prometheus/histogram.h"
#include "server/process_metrics.h"
#include "server/refusal.h"

namespace trireme {
namespace {

using prometheus::ClientMetric;
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
Buckets StepTokens() { return {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}; }
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
    HistogramKind{Measure::kInferenceTime, "request_inference_time_seconds",
                  "From the hand-over of a choice to its last token.", Phases},
    HistogramKind{Measure::kPromptTokens, "request_prompt_tokens", "Tokens of a request's prompt.",
                  Tokens},
    HistogramKind{Measure::kGenerationTokens, "request_generation_tokens",
                  "Tokens generated for a choice.", Tokens},
    HistogramKind{Measure::kMostGenerationTokens, "request_max_num_generation_tokens",
                  "Tokens generated for a request's longest choice.", Tokens},
    HistogramKind{Measure::kMaxTokens, "request_params_max_tokens",
                  "Tokens that a request lets be generated for a choice, at most.", Tokens},
    HistogramKind{Measure::kChoices, "request_params_n", "Choices that a request asks for.",
                  Choices},
};

constexpr char kOwn[] = "trireme_";

Labels LabelsOf(const std::string& model) { return {{"model_name", model}}; }
Labels LabelsOf(const Controller::TenantOf& of) {
  return {{"model_name", of.first}, {"tenant", of.second}};
}

}  // namespace

struct Metrics::Model {
  std::vector<std::unique_ptr<prometheus::Histogram>> histograms;  // as kHistograms
  prometheus::Histogram step_tokens{StepTokens()};
  double prompt_tokens = 0;
  double generation_tokens = 0;
  std::map<std::string, double> ended;  // by reason
};

Metrics::Metrics(std::string prefix) : prefix_(std::move(prefix)) {
  for (std::string_view reason : kRefusals) refused_[reason] = 0;
}
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

// ---- What happens.

void Metrics::Add(const Observe& observed) {
  std::lock_guard lock(mutex_);
  if (observed.what == Measure::kRefused) {
    ++refused_[observed.reason];
    return;
  }
  if (observed.what == Measure::kDiskFull) {
    disk_full_ = observed.value;
    return;
  }
  Model& model = Of(observed.model->name);
  for (size_t i = 0; i < kHistograms.size(); ++i) {
    if (kHistograms[i].measure == observed.what) model.histograms[i]->Observe(observed.value);
  }
  if (observed.what == Measure::kPromptTokens) model.prompt_tokens += observed.value;
  if (observed.what == Measure::kNewTokens) model.generation_tokens += observed.value;
  if (observed.what == Measure::kEnded) ++model.ended[std::string(observed.reason)];
  if (!observed.tenant.empty()) AddTenant(observed);
}

void Metrics::AddTenant(const Observe& observed) {
  Tenant& tenant = tenants_[{observed.model->name, observed.tenant}];
  if (observed.what == Measure::kPromptTokens) tenant.prompt_tokens += observed.value;
  if (observed.what == Measure::kNewTokens) tenant.generation_tokens += observed.value;
}

void Metrics::AddReport(const Controller& controller, const LinkedReplica& replica) {
  std::lock_guard lock(mutex_);
  replicas_.Add(controller, replica, [&](double tokens, int64_t n) {
    prometheus::Histogram& histogram = Of(replica.info.model).step_tokens;
    for (int64_t i = 0; i < n; ++i) histogram.Observe(tokens);
  });
}

void Metrics::AddHttp(std::string_view path, int status) {
  std::lock_guard lock(mutex_);
  ++http_[{path, status}];
}

void Metrics::Watch(const char* name, const char* help, std::function<double()> value) {
  std::lock_guard lock(mutex_);
  watched_.push_back({name, help, std::move(value)});
}

// ---- What Prometheus is told.

void Metrics::RenderModels(const Controller& controller, Families& families) const {
  std::map<std::string, double> running, waiting;
  for (const auto& [name, model] : controller.models()) {
    running[name] = waiting[name] = 0;
  }
  for (const auto& [name, n] : controller.n_waiting_by_model()) {
    waiting[name] += static_cast<double>(n);
  }
  for (const auto& [link, replica] : controller.replicas()) {
    running[replica.info.model] += replica.stats.running;
    waiting[replica.info.model] += replica.stats.waiting;
  }
  for (const auto& [name, n] : running) {
    families.Gauge(prefix_ + "num_requests_running", "Sequences that hold KV blocks.",
                   LabelsOf(name), n);
  }
  for (const auto& [name, n] : waiting) {
    families.Gauge(prefix_ + "num_requests_waiting",
                   "Sequences that wait, in the controller or a replica.", LabelsOf(name), n);
  }
  const std::map<std::string, size_t> ready = controller.ReadyReplicas();
  const std::string ready_name = StrCat(kOwn, "replicas_ready");
  const char* const ready_help = "Replicas that new requests may be given to.";
  for (const auto& [name, n] : ready) {
    families.Gauge(ready_name, ready_help, LabelsOf(name), static_cast<double>(n));
  }
  if (ready.empty()) families.Gauge(ready_name, ready_help, {}, 0);
  for (const auto& [name, model] : models_) {
    const Labels labels = LabelsOf(name);
    families.Counter(prefix_ + "prompt_tokens", "Tokens of accepted prompts.", labels,
                     model->prompt_tokens);
    families.Counter(prefix_ + "generation_tokens", "Tokens generated.", labels,
                     model->generation_tokens);
    for (const auto& [reason, n] : model->ended) {
      Labels ended = labels;
      ended.push_back({"finished_reason", reason});
      families.Counter(prefix_ + "request_success", "Requests that have ended, by reason.", ended,
                       n);
    }
    const auto histogram = [&](const char* histogram_name, const char* help,
                               const prometheus::Histogram& values) {
      ClientMetric metric = values.Collect();
      metric.label = labels;
      families.Add(prefix_ + histogram_name, help, MetricType::Histogram, std::move(metric));
    };
    for (size_t i = 0; i < kHistograms.size(); ++i) {
      histogram(kHistograms[i].name, kHistograms[i].help, *model->histograms[i]);
    }
    histogram("iteration_tokens_total",
              "Tokens of a replica's step, prompts' and generated ones, averaged over steps that "
              "were told of together.",
              model->step_tokens);
  }
}

void Metrics::RenderTenants(const Controller& controller, Families& families) const {
  auto loads = controller.ByTenant();
  for (const auto& [of, tenant] : tenants_) loads.try_emplace(of);
  for (const auto& [of, load] : loads) {
    const auto served = tenants_.find(of);
    const Tenant tenant = served == tenants_.end() ? Tenant() : served->second;
    const Labels labels = LabelsOf(of);
    families.Gauge("trireme_tenant_requests_running", "A tenant's choices that a replica has.",
                   labels, static_cast<double>(load.running));
    families.Gauge("trireme_tenant_requests_waiting", "A tenant's choices that wait for one.",
                   labels, static_cast<double>(load.waiting));
    families.Counter("trireme_tenant_prompt_tokens", "Tokens of a tenant's accepted prompts.",
                     labels, tenant.prompt_tokens);
    families.Counter("trireme_tenant_generation_tokens", "Tokens generated for a tenant.", labels,
                     tenant.generation_tokens);
  }
}

void Metrics::RenderServer(const Controller& controller, Families& families) const {
  const auto gauge = [&](const char* name, const char* help, double value) {
    families.Gauge(std::string(kOwn) + name, help, {}, value);
  };
  const RequestCounters& counters = controller.counters();
  families.Counter("trireme_replicas_lost", "Replicas that were lost.", {},
                   static_cast<double>(counters.replicas_lost));
  families.Counter("trireme_requests_replayed", "Hand-overs to another replica after a loss.", {},
                   static_cast<double>(counters.replayed));
  for (const auto& [reason, n] : refused_) {
    families.Counter("trireme_requests_refused",
                     "Requests that ended before they were accepted, by reason.",
                     {{"reason", std::string(reason)}}, n);
  }
  for (const auto& [of, n] : http_) {
    families.Counter("trireme_http_requests", "HTTP requests answered, by path and status.",
                     {{"path", std::string(of.first)}, {"status", StrCat(of.second)}}, n);
  }
  gauge("requests_open", "Choices that are running or waiting.",
        static_cast<double>(controller.n_open()));
  gauge("requests_limit", "Of them, at most (--max-requests).",
        static_cast<double>(controller.options().max_requests));
  gauge("ledger_bytes", "Bytes of the requests in memory.",
        static_cast<double>(controller.ledger_bytes()));
  gauge("ledger_limit_bytes", "Of them, at most (--max-ledger-bytes).",
        static_cast<double>(controller.options().max_ledger_bytes));
  if (disk_full_.has_value()) {
    gauge("ledger_disk_full", "1: the disk has no room for the ledger, and no request is accepted.",
          *disk_full_);
  }
  for (const Watched& watched : watched_) gauge(watched.name, watched.help, watched.value());
}

std::string Metrics::Render(const Controller& controller) const {
  Families families;
  {
    std::lock_guard lock(mutex_);
    replicas_.Render(controller, prefix_, families);
    RenderModels(controller, families);
    RenderTenants(controller, families);
    RenderServer(controller, families);
  }
  AddProcess(families);
  return families.Text();
}

}  // namespace trireme
