#include "server/admission.h"

#include <algorithm>
#include <cmath>

#include "server/request_fault.h"

namespace trireme {
namespace {

template <typename... Args>
absl::Status Refuse(std::string_view field, const Args&... args) {
  return WithField(InvalidArgument(args...), field);
}

absl::Status CheckIds(const std::vector<int32_t>& ids, int32_t vocab_size, std::string_view field) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return InvalidArgument(field, "[", i, "] is ", ids[i], ", outside the vocabulary [0, ",
                             vocab_size, ")");
    }
  }
  return absl::OkStatus();
}

// Names the bounds as the proto's comments do, for example "(0, 1]". NaN is outside of each.
absl::Status CheckRange(bool inside, double value, std::string_view field, std::string_view range) {
  if (inside && std::isfinite(value)) return absl::OkStatus();
  return Refuse(field, field, " is ", value, "; it must be ", range);
}

absl::Status CheckSampling(const SamplingParams& s, float dropout) {
  RETURN_IF_ERROR(
      CheckRange(s.temperature >= 0, s.temperature, "temperature", "finite and at least 0"));
  RETURN_IF_ERROR(CheckRange(s.top_k >= 0, s.top_k, "top_k", "at least 0 (0: all)"));
  RETURN_IF_ERROR(CheckRange(s.top_p > 0 && s.top_p <= 1, s.top_p, "top_p", "in (0, 1]"));
  RETURN_IF_ERROR(CheckRange(s.min_p >= 0 && s.min_p < 1, s.min_p, "min_p", "in [0, 1)"));
  return CheckRange(dropout >= 0 && dropout < 1, dropout, "dropout", "in [0, 1)");
}

absl::Status CheckPenalties(const Penalties& p) {
  RETURN_IF_ERROR(
      CheckRange(p.repetition > 0, p.repetition, "repetition_penalty", "finite and above 0"));
  RETURN_IF_ERROR(
      CheckRange(std::fabs(p.presence) <= 2, p.presence, "presence_penalty", "in [-2, 2]"));
  return CheckRange(std::fabs(p.frequency) <= 2, p.frequency, "frequency_penalty", "in [-2, 2]");
}

absl::Status CheckBias(const std::map<int32_t, float>& logit_bias, int32_t vocab_size) {
  if (logit_bias.size() > kMaxBiases) {
    return InvalidArgument("logit_bias has ", logit_bias.size(), " ids; at most ", kMaxBiases,
                           " are possible");
  }
  for (const auto& [id, bias] : logit_bias) {
    if (id < 0 || id >= vocab_size) {
      return InvalidArgument("logit_bias has id ", id, ", outside the vocabulary [0, ", vocab_size,
                             ")");
    }
    RETURN_IF_ERROR(CheckRange(std::fabs(bias) <= 100, bias, StrCat("logit_bias of id ", id),
                               "in [-100, 100]"));
  }
  return absl::OkStatus();
}

absl::Status CheckLogprobs(std::optional<int32_t> n_top, std::string_view field) {
  const int32_t n = n_top.value_or(0);
  return CheckRange(n >= 0 && n <= kMaxTopLogprobs, n, field,
                    StrCat("in [0, ", kMaxTopLogprobs, "]"));
}

absl::Status CheckStops(const GenerateRequest& request, const ServedModel& model) {
  if (request.stop.size() > kMaxStops) {
    return InvalidArgument("stop has ", request.stop.size(), " strings; at most ", kMaxStops,
                           " are possible");
  }
  size_t stop_bytes = 0;
  for (const std::string& stop : request.stop) {
    if (stop.empty()) return InvalidArgument("stop has an empty string");
    stop_bytes += stop.size();
  }
  if (stop_bytes > kMaxStopBytes) {
    return InvalidArgument("stop has ", stop_bytes, " bytes; at most ", kMaxStopBytes,
                           " are possible");
  }
  if (!request.stop.empty() && model.tokenizer == nullptr) {
    return FailedPrecondition("stop strings need a tokenizer, and ", model.name,
                              " has none: use stop_token_ids");
  }
  return absl::OkStatus();
}

absl::Status CheckStopIds(const GenerateRequest& request, const ServedModel& model) {
  if (request.stop_token_ids.size() > kMaxStopIds) {
    return InvalidArgument("stop_token_ids has ", request.stop_token_ids.size(), " ids; at most ",
                           kMaxStopIds, " are possible");
  }
  return CheckIds(request.stop_token_ids, model.vocab_size, "stop_token_ids");
}

absl::Status CheckNames(const GenerateRequest& request) {
  if (!IsRequestId(request.request_id)) {
    return Refuse("request_id", "request_id must be at most ", kMaxRequestIdBytes,
                  " bytes of printable ASCII without spaces");
  }
  if (request.cache_salt.size() > kMaxCacheSaltBytes) {
    return Refuse("cache_salt", "cache_salt has ", request.cache_salt.size(), " bytes; at most ",
                  kMaxCacheSaltBytes, " are possible");
  }
  if (request.timeout_s.has_value()) {
    const double timeout = *request.timeout_s;
    RETURN_IF_ERROR(CheckRange(timeout > 0, timeout, "timeout_s", "finite and above 0"));
  }
  if (request.detach_s.has_value()) {
    const double ttl = *request.detach_s;
    RETURN_IF_ERROR(CheckRange(ttl > 0 && ttl <= kMaxDetachSeconds, ttl, "detach_ttl_s",
                               StrCat("in (0, ", kMaxDetachSeconds, "]")));
  }
  return absl::OkStatus();
}

// How many ids the request may generate, checked against what the context leaves.
absl::StatusOr<int32_t> MaxTokens(const GenerateRequest& request, int32_t context_length) {
  const int64_t prompt = static_cast<int64_t>(request.ids.size());
  // An empty text is one that was forgotten, even where the tokenizer makes a <s> of it.
  if (prompt == 0 || (request.text.has_value() && request.text->empty())) {
    return Refuse("prompt", "the prompt is empty; it must have at least one token");
  }
  if (prompt >= context_length) {
    return WithReason(Refuse("prompt", "the prompt has ", prompt, " tokens; the context of ",
                             context_length, " leaves no room to generate"),
                      kContextLengthExceeded);
  }
  const int64_t left = context_length - prompt;
  if (!request.max_tokens.has_value()) return static_cast<int32_t>(left);
  const int64_t max_tokens = *request.max_tokens;
  if (max_tokens < 1) {
    return Refuse("max_tokens", "max_tokens is ", max_tokens, "; it must be at least 1");
  }
  if (max_tokens > left) {
    return WithReason(
        Refuse("max_tokens", "the prompt's ", prompt, " tokens and max_tokens ", max_tokens,
               " exceed the context of ", context_length, "; at most ", left, " can be generated"),
        kContextLengthExceeded);
  }
  return static_cast<int32_t>(max_tokens);
}

}  // namespace

bool IsRequestId(std::string_view id) {
  return id.size() <= kMaxRequestIdBytes &&
         std::ranges::all_of(id, [](char c) { return c > 0x20 && c < 0x7f; });
}

absl::StatusOr<SequenceRequest> MakeSequence(const GenerateRequest& request,
                                             const ServedModel& model, int32_t context_length,
                                             uint64_t seed) {
  RETURN_IF_ERROR(CheckNames(request));
  const int32_t n = request.n.value_or(1);
  RETURN_IF_ERROR(
      CheckRange(n >= 1 && n <= kMaxChoices, n, "n", StrCat("in [1, ", kMaxChoices, "]")));
  ASSIGN_OR_RETURN(const int32_t max_tokens, MaxTokens(request, context_length));
  RETURN_IF_ERROR(
      WithField(CheckIds(request.ids, model.vocab_size, request.text ? "the prompt's ids" : "ids"),
                "prompt"));
  RETURN_IF_ERROR(WithField(CheckStops(request, model), "stop"));
  RETURN_IF_ERROR(WithField(CheckStopIds(request, model), "stop_token_ids"));

  SequenceRequest sequence;
  sequence.prompt_ids = request.ids;
  sequence.sampling.temperature = request.temperature.value_or(1.0f);
  sequence.sampling.top_k = request.top_k.value_or(0);
  sequence.sampling.top_p = request.top_p.value_or(1.0f);
  sequence.sampling.min_p = request.min_p.value_or(0.0f);
  sequence.sampling.seed = request.seed.value_or(seed);
  sequence.penalties = {.repetition = request.repetition_penalty.value_or(1.0f),
                        .presence = request.presence_penalty.value_or(0.0f),
                        .frequency = request.frequency_penalty.value_or(0.0f)};
  sequence.logit_bias = request.logit_bias;
  sequence.logprobs = request.logprobs;
  sequence.prompt_logprobs = request.prompt_logprobs;
  sequence.max_tokens = max_tokens;
  sequence.min_tokens = request.min_tokens.value_or(0);
  sequence.stop_ids = request.stop_token_ids;
  if (!request.ignore_eos) {
    sequence.stop_ids.insert(sequence.stop_ids.end(), model.eos_ids.begin(), model.eos_ids.end());
  }
  sequence.dropout = request.dropout.value_or(0.0f);
  sequence.dropout_seed = sequence.sampling.seed;
  sequence.cache_salt = request.cache_salt;
  sequence.priority = request.priority;
  RETURN_IF_ERROR(CheckSampling(sequence.sampling, sequence.dropout));
  RETURN_IF_ERROR(CheckPenalties(sequence.penalties));
  RETURN_IF_ERROR(WithField(CheckBias(sequence.logit_bias, model.vocab_size), "logit_bias"));
  RETURN_IF_ERROR(CheckLogprobs(sequence.logprobs, "logprobs"));
  RETURN_IF_ERROR(CheckLogprobs(sequence.prompt_logprobs, "prompt_logprobs"));
  if (request.prompt_logprobs.has_value()) {
    const int64_t scores = int64_t{n} * static_cast<int64_t>(request.ids.size()) *
                           (int64_t{1} + *request.prompt_logprobs);
    if (scores > kMaxPromptScores) {
      return Refuse("prompt_logprobs", "n ", n, ", a prompt of ", request.ids.size(),
                    " tokens and prompt_logprobs ", *request.prompt_logprobs, " make ", scores,
                    " logprobs of prompts; at most ", kMaxPromptScores, " are possible");
    }
  }
  RETURN_IF_ERROR(CheckRange(sequence.min_tokens >= 0 && sequence.min_tokens <= max_tokens,
                             sequence.min_tokens, "min_tokens",
                             StrCat("in [0, ", max_tokens, "], up to max_tokens")));
  return sequence;
}

}  // namespace trireme
