// What Prometheus is told. What vLLM has, too, is told by its names, units and buckets, so that
// dashboards and autoscalers made for it need a change of prefix at most; what it has not is
// trireme_…, and the process's own metrics have no prefix.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "server/actions.h"
#include "server/controller.h"
#include "server/replica_metrics.h"

namespace trireme {

class Metrics {
 public:
  // `prefix`: before every name of vLLM's.
  explicit Metrics(std::string prefix = "trireme_");
  ~Metrics();

  // Every call comes from any thread, but those that take the controller from its own.

  void Add(const Observe& observed);

  // The replica, one of the controller's, has reported.
  void AddReport(const Controller& controller, const LinkedReplica& replica);

  // An HTTP request was answered. `path`: one of a few, of static storage.
  void AddHttp(std::string_view path, int status);

  // A gauge that is asked each time; `name` without a prefix, both of static storage.
  void Watch(const char* name, const char* help, std::function<double()> value);

  // The text exposition format (prometheus.io/docs/instrumenting/exposition_formats), as things are
  // now.
  std::string Render(const Controller& controller) const;

 private:
  struct Model;
  struct Tenant {
    double prompt_tokens = 0;
    double generation_tokens = 0;
  };
  struct Watched {
    const char* name;
    const char* help;
    std::function<double()> value;
  };

  Model& Of(const std::string& model) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddTenant(const Observe& observed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RenderModels(const Controller& controller, Families& families) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RenderTenants(const Controller& controller, Families& families) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RenderServer(const Controller& controller, Families& families) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string prefix_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Model>> models_ ABSL_GUARDED_BY(mutex_);  // by name
  std::map<Controller::TenantOf, Tenant> tenants_ ABSL_GUARDED_BY(mutex_);
  mutable ReplicaMetrics replicas_ ABSL_GUARDED_BY(mutex_);  // labels are given as one looks
  std::map<std::string_view, double> refused_ ABSL_GUARDED_BY(mutex_);               // by reason
  std::map<std::pair<std::string_view, int>, double> http_ ABSL_GUARDED_BY(mutex_);  // path, status
  std::optional<double> disk_full_ ABSL_GUARDED_BY(mutex_);  // none: there is no ledger on a disk
  std::vector<Watched> watched_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme
