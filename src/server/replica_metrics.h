// What replicas count, over their restarts. A replica is labelled `engine`, as vLLM has it: by the
// number that its supervisor gave it; where it has none, by the lowest that none of its model has.
// So there are as many series as replicas at a time, however often they are started anew, and each
// goes on where the one before it ended.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "server/controller.h"
#include "server/metric_families.h"

namespace trireme {

class ReplicaMetrics {
 public:
  // The replica, one of the controller's, has reported. `step(tokens, n)`: it had n steps of so
  // many tokens each, prompts' and generated ones; averaged over steps that were told of together.
  void Add(const Controller& controller, const LinkedReplica& replica,
           const std::function<void(double tokens, int64_t n)>& step);

  // Names begin with `prefix`.
  void Render(const Controller& controller, const std::string& prefix, Families& families);

 private:
  struct Counts {
    int64_t prefix_queries = 0;
    int64_t prefix_hits = 0;
    int64_t preemptions = 0;
  };
  struct Engine {
    uint64_t link = 0;      // whose it is, or was last
    uint64_t instance = 0;  // likewise
    Counts before;          // of the instances before
    ReplicaStats stats;     // of this instance, as reported last
  };
  using Engines = std::map<std::pair<std::string, int32_t>, Engine>;  // by model and label

  // Null for one whose number a later link has taken.
  Engine* Find(const Controller& controller, const LinkedReplica& replica);
  Engines::iterator Place(const Controller& controller, const LinkedReplica& replica);

  Engines engines_;
};

}  // namespace trireme
