// What travels between a controller and a replica: sequences to generate, and what came of them.
// Plain structs; runtime/leader.h consumes them, server/ carries them over gRPC.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace trireme {

// How the next id is drawn from a row of logits. Filters apply in this order: temperature, min-p,
// top-k, top-p (over what top-k left); then one Gumbel-max draw keyed by (seed, choice, index).
struct SamplingParams {
  float temperature = 1;  // 0: greedy
  int32_t top_k = 0;      // 0: all
  float top_p = 1;        // (0,1]
  float min_p = 0;        // [0,1): keep ids with p >= min_p * max p
  uint64_t seed = 0;
};

// What the ids so far do to the logits of the next draw, of which `repetition` counts the prompt's,
// too: a logit is divided by it where it is above 0, else multiplied (Keskar et al. 2019); then
// `presence`, and `frequency` times how often the id has been generated, are taken away.
struct Penalties {
  float repetition = 1;
  float presence = 0;
  float frequency = 0;

  bool any() const { return repetition != 1 || presence != 0 || frequency != 0; }
};

inline constexpr int32_t kMaxTopLogprobs = 20;

// Of the softmax of the model's logits, before penalties, temperature and filters, at one position:
// of the id that stands there, and of the most probable ones, the best first.
struct TokenLogprobs {
  struct Top {
    int32_t id = 0;
    float logprob = 0;
    bool operator==(const Top&) const = default;
  };
  float logprob = 0;
  std::vector<Top> top;  // at most kMaxTopLogprobs
  bool operator==(const TokenLogprobs&) const = default;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kDeadline, kError };

// One choice of one request: what a replica generates. Everything that the ids depend on is here,
// so that another replica of the same fingerprint, given the ids already emitted, goes on exactly.
struct SequenceRequest {
  uint64_t id = 0;  // chosen by the controller, unique per controller and never reused
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> emitted_ids;  // already delivered: prefilled again, never drawn again
  SamplingParams sampling;
  Penalties penalties;
  std::map<int32_t, float> logit_bias;  // by id; added before the penalties
  uint32_t choice = 0;
  int32_t max_tokens = 0;         // ids to generate in all, emitted_ids included
  int32_t min_tokens = 0;         // stop ids cannot be drawn before
  std::vector<int32_t> stop_ids;  // end the sequence; the id is not emitted
  float dropout = 0;              // Monte-Carlo dropout probability [0,1)
  uint64_t dropout_seed = 0;
  std::string cache_salt;  // prefix-cache entries are shared between equal salts only
  std::string tenant;      // tenants share the replica by weight
  double weight = 1;
  int32_t priority = 0;  // higher first, among the tenant's
  // No other sequence is in a plan with it until it has generated so many ids.
  int32_t alone_ids = 0;
  // Logprobs are wanted, of generated ids and of the prompt's, with so many of the most probable.
  std::optional<int32_t> logprobs;
  std::optional<int32_t> prompt_logprobs;  // told once, before the first id
};

// News of one sequence. Ids are never cumulative.
struct SequenceDelta {
  uint64_t id = 0;
  int32_t offset = 0;  // index of ids[0] among the generated ids, emitted_ids included
  std::vector<int32_t> ids;
  std::vector<TokenLogprobs> logprobs;         // one per id, if wanted
  std::vector<TokenLogprobs> prompt_logprobs;  // of prompt_ids[1] on
  std::optional<FinishReason> finish;
  std::optional<int32_t> matched_stop_id;
  int32_t cached_tokens = 0;  // with the first delta: prompt tokens found in the prefix cache
  std::string error;          // with kError: one line
  bool alone = false;         // of one with alone_ids: from here on it is alone
};

struct ReplicaStats {
  int64_t steps = 0;    // plans committed since start
  int32_t running = 0;  // sequences that hold KV blocks
  int32_t waiting = 0;  // sequences that wait for blocks
  int64_t kv_blocks_total = 0;
  int64_t kv_blocks_used = 0;    // held by sequences
  int64_t kv_blocks_cached = 0;  // held by the prefix cache alone
  int64_t prefix_queries = 0;    // prompt tokens looked up
  int64_t prefix_hits = 0;       // … and found
  int64_t preemptions = 0;
  int64_t prompt_tokens = 0;  // computed by prefill
  int64_t generated_tokens = 0;
};

// What a controller may have at the replica at once. More is taken, and waits there, where nobody
// knows of the tenants that wait elsewhere.
struct Credits {
  int32_t sequences = 0;
  int64_t kv_tokens = 0;  // sum of the sequences' tokens, prompt and generated
  bool operator==(const Credits&) const = default;
};

// One per committed plan that has news, never one per token.
struct StepReport {
  std::vector<SequenceDelta> deltas;
  ReplicaStats stats;
  std::optional<Credits> credits;  // if they are others than before
};

// What a replica says of itself when it registers.
struct ReplicaInfo {
  std::string model;           // served name
  std::string fingerprint;     // weights, dtypes, KV format, reduction class: equal = same bits
  std::string tokenizer_json;  // text of the files beside the weights; empty if absent
  std::string tokenizer_config_json;
  std::string chat_template;  // chat_template.jinja
  std::vector<int32_t> eos_ids;
  int32_t vocab_size = 0;
  int32_t context_length = 0;  // prompt + generated ids
  int32_t max_rows = 0;        // sequences that run together
  int64_t kv_tokens = 0;       // KV capacity
  int32_t kv_block_size = 0;
  Credits credits;  // of a controller that has it to itself
  int32_t tp = 1;
  int32_t pp = 1;
  bool sequence_parallel = false;
  std::string dtype;  // weights
  std::string activations;
  std::string device;              // e.g. "cpu AVX-512"
  std::string version;             // of the program
  int32_t number = -1;             // that its supervisor knows it by
  std::vector<std::string> hosts;  // by rank
  std::vector<int64_t> rank_pids;  // by rank
};

}  // namespace trireme
