// OpenAI's HTTP API as text: JSON bodies to requests, events to JSON objects and server-sent
// events. Fields and meanings are those of its API reference (completions), with vLLM's extensions.
// No I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "nlohmann/json.hpp"
#include "server/api.h"
#include "server/openai_logprobs.h"

namespace trireme {

// What stands in an answer that is an error.
//   {"error": {"message": …, "type": …, "param": …, "code": …}}
struct OpenAiError {
  int http_status;
  std::string body;
};
// `param`: the field at fault, empty if it is none.
OpenAiError ToOpenAiError(const absl::Status& status, const std::string& param = "");

inline constexpr size_t kMaxPrompts = 256;

struct CompletionCall {
  bool is_chat = false;
  std::vector<GenerateRequest> requests;  // one per prompt; one of a chat
  bool prompt_logprobs = false;           // vLLM's field of that name
  std::string model;                      // as it was asked for
  bool stream = false;
  bool include_usage = false;
};

// The body of POST /v1/completions. INVALID_ARGUMENT naming the field: of a wrong type, out of
// range, or one that is known, would change the output and is not supported. Fields that nobody
// knows are ignored; null is unset.
absl::StatusOr<CompletionCall> ParseCompletion(const std::string& body, std::string* param);

// The body of POST /v1/chat/completions, likewise. The content of messages becomes text, arguments
// of tool calls that are JSON in a string become what they say.
absl::StatusOr<CompletionCall> ParseChat(const std::string& body, std::string* param);

// The messages of a chat alone, as they stand in such a body: a JSON array.
absl::StatusOr<std::shared_ptr<const Chat>> ParseMessages(const std::string& json);

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
  std::string EndOfStream() const;

  const bool is_chat_, stream_, include_usage_;
  const std::string id_, model_;
  const int64_t created_;
  const size_t n_;                      // choices of each prompt
  const std::optional<int32_t> n_top_;  // logprobs are wanted, with so many others
  const bool echo_, prompt_logprobs_;
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
