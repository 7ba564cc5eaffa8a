// What a benchmark of a server sends: prompts of how many tokens, how many to generate, and when.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/status.h"

namespace trireme {

// Tokens, drawn uniformly; both ends belong to it.
struct LengthRange {
  int32_t least = 0;
  int32_t most = 0;
};

// "128" or "64..256". INVALID_ARGUMENT unless 1 <= least <= most.
absl::StatusOr<LengthRange> ParseLengths(const std::string& text);

// A request of a trace.
struct TraceEntry {
  std::optional<double> at_s;  // after the trace's begin
  std::optional<std::string> text;
  int32_t prompt_tokens = 0;  // without a text
  int32_t output_tokens = 0;
  std::vector<int64_t> blocks;  // names of the prompt's blocks of kTraceBlockTokens: equal names,
                                // equal tokens
};
inline constexpr int32_t kTraceBlockTokens = 512;

// A line each of JSON: "output_length" and either "prompt" (a text) or "input_length", and perhaps
// "timestamp" (ms) and "hash_ids". That is the format of the Mooncake traces (Qin et al. 2024).
// INVALID_ARGUMENT naming the line.
absl::StatusOr<std::vector<TraceEntry>> ParseTrace(const std::string& jsonl);

struct LoadOptions {
  LengthRange prompt_tokens{128, 128};
  LengthRange output_tokens{32, 32};
  double shared_prefix = 0;  // the share of each prompt, from its begin, that all have in common
  std::vector<TraceEntry> trace;  // instead of the above; from its begin again after its end
  uint64_t seed = 0;
};

struct LoadRequest {
  std::optional<std::string> text;  // the prompt, or
  std::vector<int32_t> ids;
  int32_t output_tokens = 0;
  uint64_t seed = 0;
};

// A sequence of requests, the same for the same seed. No prompt repeats but for what is shared, so
// that a prefix cache finds no more than a real one would.
class Load {
 public:
  // `words`: ids that prompts are made of.
  Load(LoadOptions options, std::vector<int32_t> words);

  LoadRequest Next();

  // The trace from its begin, with other tokens.
  void Rewind();

  // Seconds to the next arrival of a Poisson process of `rate` per second.
  double NextInterval(double rate);

 private:
  int32_t Draw(LengthRange range);
  void Append(size_t n, std::mt19937_64& random, std::vector<int32_t>& ids) const;
  std::vector<int32_t> DrawPrompt();
  std::vector<int32_t> TracePrompt(const TraceEntry& entry);

  const LoadOptions options_;
  const std::vector<int32_t> words_;
  std::mt19937_64 random_;
  std::vector<int32_t> shared_;  // what prompts begin with
  size_t next_entry_ = 0;        // of the trace
  uint64_t n_rewinds_ = 0;
};

}  // namespace trireme
