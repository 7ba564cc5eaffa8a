// Metrics in the text exposition format (prometheus.io/docs/instrumenting/exposition_formats).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "prometheus/metric_family.h"

namespace trireme {

using Labels = std::vector<prometheus::ClientMetric::Label>;

// Families by name, in the order in which they were first named.
class Families {
 public:
  void Add(const std::string& name, const char* help, prometheus::MetricType type,
           prometheus::ClientMetric metric);
  void Gauge(const std::string& name, const char* help, Labels labels, double value);
  void Counter(const std::string& name, const char* help, Labels labels, double value);  // …_total

  std::string Text() const;

 private:
  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace trireme
