// How fast the whole engine generates, beside what the device's memory and multipliers allow.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "runtime/replica_rank.h"

namespace trireme {

struct EngineBenchOptions {
  ReplicaOptions replica;  // `shape` for random weights, or `model_dir`
  std::vector<int> batches = {1, 4, 16};
  int prompt_tokens = 512;  // of the prefill case
  int decode_context = 32;  // prompt of the decode cases
  int decode_steps = 16;
  int rounds = 7;      // every case once a round; the median counts
  bool quick = false;  // probes in little memory: tries the bench, measures nothing
  std::string json;    // rank 0 also writes the figures to this file
};

// Collective. Rank 0 prints prefill and decode tokens per second, each beside its bound:
// max(bytes of weights and KV / bandwidth, FLOP / rate), both measured by all ranks at once just
// before and just after the case. Of a GPU that decodes alone, also how much of a step it is idle:
// what its work of a step takes when it need not wait for the host, against the step's time.
absl::Status RunEngineBench(const EngineBenchOptions& options, World& world, std::ostream& out);

}  // namespace trireme
