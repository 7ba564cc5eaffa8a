// How fast the whole engine generates, beside what the machine's memory and multipliers allow.
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
  int rounds = 7;    // every case once a round; the median counts
  std::string json;  // rank 0 also writes the figures to this file
};

// Collective. Rank 0 prints prefill and decode tokens per second, each beside its bound:
// max(weight bytes / read bandwidth, FLOP / FMA peak), both measured by all ranks at once just
// before and just after the case.
absl::Status RunEngineBench(const EngineBenchOptions& options, World& world, std::ostream& out);

}  // namespace trireme
