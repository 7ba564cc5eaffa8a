// What a client asks of the controller and what it is told: the messages of
// proto/trireme/v1/inference.proto as plain structs. Meanings, defaults and ranges stand there.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/status.h"
#include "runtime/request.h"
#include "server/trace_context.h"

namespace trireme {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

inline double Seconds(Duration d) { return std::chrono::duration<double>(d).count(); }
inline Duration FromSeconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

struct Chat;

// What a client that comes back holds of one choice.
struct Held {
  int32_t n_ids = 0;
  std::optional<int64_t> text_bytes;  // not given: the text of those ids
};

inline constexpr int32_t kMaxChoices = 128;
inline constexpr double kDefaultDetachSeconds = 600;
inline constexpr double kMaxDetachSeconds = 86400;

struct GenerateRequest {
  std::string tenant;                // whose it is, by its key
  double weight = 1;                 // the tenant's share of the service
  size_t max_tenant_requests = 0;    // choices of the tenant's at a time; 0: no bound of its own
  std::string model;                 // empty: the only one
  std::string request_id;            // empty: the controller chooses
  std::optional<std::string> text;   // the prompt, or
  std::shared_ptr<const Chat> chat;  // the prompt is made of it (chat.h), or
  std::vector<int32_t> ids;  // the prompt; of a text or a chat, what the tokenizer made of it
  std::optional<bool> add_special_tokens;  // the tokenizer's; not given: to texts, not to chats
  std::optional<int32_t> n;                // choices
  std::optional<int32_t> max_tokens;
  std::optional<int32_t> min_tokens;
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  int32_t priority = 0;
  std::optional<double> timeout_s;
  std::string cache_salt;
  bool echo = false;
  std::optional<float> dropout;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::map<int32_t, float> logit_bias;
  std::optional<int32_t> logprobs;
  std::optional<int32_t> prompt_logprobs;
  std::optional<double> detach_s;  // goes on without its client, that may come back so much later
  std::optional<std::map<uint32_t, Held>> resume;  // it has come back, with this of each choice
  std::string digest;  // of what the client sent but `resume`: equal ones ask for the same
  TraceContext trace;  // no trace_id: none
};

struct Accepted {
  std::string id;
  uint64_t seed = 0;
  std::vector<int32_t> prompt_ids;  // with echo or prompt_logprobs
  std::string prompt_text;          // with echo
};

struct Delta {
  uint32_t choice = 0;
  int32_t offset = 0;
  std::vector<int32_t> ids;
  std::string text;
  std::vector<TokenLogprobs> logprobs = {};
  std::vector<TokenLogprobs> prompt_logprobs = {};
};

struct Waiting {
  std::string reason;
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;
  int32_t cached_tokens = 0;
};

struct Timings {
  double queue_s = 0;
  double ttft_s = 0;
  double tbt_s_mean = 0;
  double total_s = 0;
};

struct Finished {
  uint32_t choice = 0;
  FinishReason reason = FinishReason::kStop;  // kStop, kLength or kDeadline
  std::optional<int32_t> stop_id;
  std::optional<std::string> stop_text;
  Usage usage;
  Timings timings;
  bool last = true;  // of the request's choices
};

// Accepted, then Deltas, Waitings and a Finished for each choice; or at any point an error, which
// is the end.
using Event = std::variant<Accepted, Delta, Waiting, Finished, absl::Status>;
using EventCallback = std::function<void(Event&&)>;

inline bool IsLast(const Event& event) {
  const auto* finished = std::get_if<Finished>(&event);
  return finished != nullptr ? finished->last : std::holds_alternative<absl::Status>(event);
}

// What becomes of a choice before it ends; for those who watch requests, not for clients.
struct Progress {
  enum Kind { kHandedOver, kReplicaLost };
  Kind kind = kHandedOver;
  uint32_t choice = 0;
  uint64_t link = 0;  // of the replica
};

// Whoever watches a request is told of all this.
struct RequestWatch {
  EventCallback on_event;  // and tells the client
  std::function<void(const Progress&)> on_progress;
};

// "stop", "length", "deadline", …
std::string_view FinishReasonName(FinishReason reason);

}  // namespace trireme
