// Events of requests -> the JSON objects and server-sent events of OpenAI's HTTP API. No I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "nlohmann/json.hpp"
#include "server/api.h"
#include "server/openai.h"
#include "server/openai_logprobs.h"
#include "text/tokenizer.h"

namespace trireme {

// What a call's events become. Choices are numbered over the prompts: prompt * n + choice.
class CompletionAnswer {
 public:
  // `id`, `created` (seconds since 1970) and `model` stand in every object. `tokenizer`: the
  // model's, or null.
  CompletionAnswer(const CompletionCall& call, std::string id, int64_t created, std::string model,
                   std::shared_ptr<const Tokenizer> tokenizer);

  // An event of one prompt's request. Streams: what is to be sent for it, perhaps nothing.
  std::string Add(size_t prompt, Event&& event);

  bool ended() const { return n_open_ == 0 || error_.has_value(); }
  // Why it broke off: the first error of any prompt.
  const std::optional<absl::Status>& error() const { return error_; }

  std::string Whole() const;  // the answer of a call that does not stream, once ended

 private:
  struct Choice {
    std::string text;
    std::string finish_reason;
    bool begun = false;
    int64_t offset = 0;  // of the next token in the text, in characters
    Logprobs logprobs;
    nlohmann::ordered_json prompt_logprobs;  // vLLM's
  };

  nlohmann::ordered_json Head(bool of_stream) const;
  nlohmann::ordered_json UsageJson() const;
  // One of a choice; `delta`: what is new of it.
  std::string ChunkOf(size_t index, nlohmann::ordered_json delta, const char* finish_reason,
                      const Logprobs& logprobs = {}) const;
  nlohmann::ordered_json DeltaOf(const std::string& text) const;
  std::string AddText(size_t index, const std::string& text, Logprobs logprobs = {});
  std::string AddDelta(size_t prompt, const Delta& delta);
  // Before the first token of a choice: what is said of its prompt.
  std::string Begin(size_t prompt, uint32_t choice, const std::vector<TokenLogprobs>& logprobs);
  std::string StopText(const Finished& finished) const;
  std::string EndOfStream() const;

  const bool is_chat_, stream_, include_usage_;
  const std::string id_, model_;
  const int64_t created_;
  const size_t n_;                      // choices of each prompt
  const std::optional<int32_t> n_top_;  // logprobs are wanted, with so many others
  const bool echo_, prompt_logprobs_, include_stop_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const TokenSpeller speller_;
  size_t n_open_;  // prompts whose requests have not ended
  std::vector<Choice> choices_;
  std::vector<Usage> usages_;  // by prompt
  std::vector<Accepted> prompts_;
  std::optional<absl::Status> error_;
};

// One event of a server-sent stream.
std::string ServerSentEvent(const std::string& data);

}  // namespace trireme
