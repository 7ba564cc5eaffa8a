// Runs replicas inside a test, ranks as threads, and keeps every logit that an id was drawn from.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/replica_rank.h"

namespace trireme {

struct Arrival {
  SequenceRequest request;
  int before_step = 0;  // submitted before this step of the schedule
};

struct Outcome {
  std::map<uint64_t, std::vector<int32_t>> ids;                        // by sequence
  std::map<std::pair<uint64_t, uint32_t>, std::vector<float>> logits;  // by (seed, token index)
  std::map<uint64_t, std::vector<TokenLogprobs>> logprobs, prompt_logprobs;  // by sequence
  ReplicaStats stats;
  int64_t steps = 0;
  int64_t sequence_parallel_steps = 0;
  Traffic traffic;  // of rank 0's tensor-parallel group, in these steps
};

// In place of what the layout and the device say: see SchedulerOptions.
struct Scheduling {
  std::optional<int64_t> sequence_parallel_tokens;
  std::optional<bool> ahead;
};

// The sequences' seeds must differ: they name the logits.
Outcome RunOnThreads(const ReplicaOptions& options, std::vector<Arrival> arrivals,
                     const Scheduling& scheduling = {});

std::string GoldenModel(const std::string& name);  // tests/golden/logits/<name>
std::string BundledModel();                        // examples/models/…

}  // namespace trireme
