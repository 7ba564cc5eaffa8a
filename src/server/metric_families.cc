#include "server/metric_families.h"

#include <algorithm>
#include <sstream>

#include "prometheus/text_serializer.h"

namespace trireme {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

void Families::Add(const std::string& name, const char* help, MetricType type,
                   ClientMetric metric) {
  auto it = std::ranges::find(families_, name, &MetricFamily::name);
  if (it == families_.end()) {
    MetricFamily family;
    family.name = name;
    family.help = help;
    family.type = type;
    it = families_.insert(it, std::move(family));
  }
  it->metric.push_back(std::move(metric));
}

void Families::Gauge(const std::string& name, const char* help, Labels labels, double value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  Add(name, help, MetricType::Gauge, std::move(metric));
}

void Families::Counter(const std::string& name, const char* help, Labels labels, double value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.counter.value = value;
  Add(name + "_total", help, MetricType::Counter, std::move(metric));
}

std::string Families::Text() const {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families_);
  return text.str();
}

}  // namespace trireme
