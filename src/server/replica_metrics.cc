#include "server/replica_metrics.h"

#include <algorithm>

#include "base/str.h"

namespace trireme {
namespace {

// Steps told of at once. More than a long prompt takes are those before the link.
constexpr int64_t kMostSteps = 4096;

Labels LabelsOf(const std::pair<std::string, int32_t>& place) {
  return {{"model_name", place.first}, {"engine", StrCat(place.second)}};
}

}  // namespace

ReplicaMetrics::Engines::iterator ReplicaMetrics::Place(const Controller& controller,
                                                        const LinkedReplica& replica) {
  const std::string& model = replica.info.model;
  if (replica.info.number >= 0) return engines_.try_emplace({model, replica.info.number}).first;
  const auto begin = engines_.lower_bound({model, 0});
  const auto end =
      std::find_if(begin, engines_.end(), [&](const auto& e) { return e.first.first != model; });
  const auto linked = [&](const auto& e) { return controller.replicas().contains(e.second.link); };
  const auto own = std::find_if(begin, end, [&](const auto& e) {
    return e.second.link == replica.link || (e.second.instance == replica.instance && !linked(e));
  });
  if (own != end) return own;
  int32_t label = 0;
  for (auto it = begin; it != end && it->first.second == label && linked(*it); ++it) ++label;
  return engines_.try_emplace({model, label}).first;
}

ReplicaMetrics::Engine* ReplicaMetrics::Find(const Controller& controller,
                                             const LinkedReplica& replica) {
  Engine& engine = Place(controller, replica)->second;
  if (engine.link > replica.link && controller.replicas().contains(engine.link)) return nullptr;
  engine.link = replica.link;
  if (engine.instance != replica.instance) {
    engine.instance = replica.instance;
    engine.before.prefix_queries += engine.stats.prefix_queries;
    engine.before.prefix_hits += engine.stats.prefix_hits;
    engine.before.preemptions += engine.stats.preemptions;
    engine.stats = {};
  }
  return &engine;
}

void ReplicaMetrics::Add(const Controller& controller, const LinkedReplica& replica,
                         const std::function<void(double tokens, int64_t n)>& step) {
  Engine* engine = Find(controller, replica);
  if (engine == nullptr) return;
  const ReplicaStats before = std::exchange(engine->stats, replica.stats);
  const int64_t n = replica.stats.steps - before.steps;
  const int64_t tokens = replica.stats.prompt_tokens - before.prompt_tokens +
                         replica.stats.generated_tokens - before.generated_tokens;
  if (n > 0 && n <= kMostSteps) step(static_cast<double>(tokens) / static_cast<double>(n), n);
}

void ReplicaMetrics::Render(const Controller& controller, const std::string& prefix,
                            Families& families) {
  for (const auto& [link, replica] : controller.replicas()) Find(controller, replica);
  for (const auto& [place, engine] : engines_) {
    const Labels labels = LabelsOf(place);
    const auto counter = [&](const char* name, const char* help, int64_t before, int64_t now) {
      families.Counter(prefix + name, help, labels, static_cast<double>(before + now));
    };
    counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.",
            engine.before.prefix_queries, engine.stats.prefix_queries);
    counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.",
            engine.before.prefix_hits, engine.stats.prefix_hits);
    counter("num_preemptions", "Sequences whose KV blocks were taken for others.",
            engine.before.preemptions, engine.stats.preemptions);
    const auto replica = controller.replicas().find(engine.link);
    if (replica == controller.replicas().end()) continue;
    const ReplicaStats& stats = replica->second.stats;
    const double share = stats.kv_blocks_total == 0
                             ? 0
                             : static_cast<double>(stats.kv_blocks_used) /
                                   static_cast<double>(stats.kv_blocks_total);
    families.Gauge(prefix + "kv_cache_usage_perc", "KV blocks that sequences hold, of all: 0 to 1.",
                   labels, share);
    Labels config = labels;
    config.push_back({"block_size", StrCat(replica->second.info.kv_block_size)});
    config.push_back({"num_gpu_blocks", StrCat(stats.kv_blocks_total)});
    families.Gauge(prefix + "cache_config_info", "The KV cache.", config, 1);
  }
}

}  // namespace trireme
