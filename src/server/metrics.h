// What Prometheus is told: names, units and buckets as vLLM has them, with the prefix trireme_ (or
// vllm:), so that dashboards and autoscalers made for it need a change of prefix at most.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "server/actions.h"
#include "server/controller.h"

namespace trireme {

class Metrics {
 public:
  // `prefix`: before every name.
  explicit Metrics(std::string prefix = "trireme_");
  ~Metrics();

  // Thread-safe.
  void Add(const Observe& observed);

  // The text exposition format (prometheus.io/docs/instrumenting/exposition_formats), as things are
  // now.
  std::string Render(const Controller& controller) const;

 private:
  struct Model;
  Model& Of(const std::string& model) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string prefix_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Model>> models_ ABSL_GUARDED_BY(mutex_);  // by name
};

}  // namespace trireme
