// Logprobs in the shapes of OpenAI's API and of vLLM's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nlohmann/json.hpp"
#include "runtime/request.h"
#include "text/tokenizer.h"

namespace trireme {

// Ids as answers name them: the bytes of their tokens, or "token_id:5" without a tokenizer.
class TokenSpeller {
 public:
  explicit TokenSpeller(std::shared_ptr<const Tokenizer> tokenizer)
      : tokenizer_(std::move(tokenizer)) {}
  std::string operator()(int32_t id) const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
};

// The "logprobs" of a choice, as they come.
//   completions: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
//   chats: {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
class Logprobs {
 public:
  using Json = nlohmann::ordered_json;

  // Of ids[i]; of the first id of a prompt there are none: null. At most n_top of the others.
  // `offset`: where the token begins in the choice's text, in characters; moves on.
  void AddToCompletion(const TokenSpeller& speller, int32_t id, const TokenLogprobs* logprobs,
                       int32_t n_top, int64_t* offset);
  void AddToChat(const TokenSpeller& speller, int32_t id, const TokenLogprobs& logprobs);
  void Append(const Logprobs& more);

  const Json& json() const { return json_; }  // null: none

 private:
  Json json_;
};

// vLLM's "prompt_logprobs": null, then for each id {"ID": {"logprob", "decoded_token"}, …}.
nlohmann::ordered_json PromptLogprobs(const TokenSpeller& speller, std::span<const int32_t> ids,
                                      std::span<const TokenLogprobs> logprobs);

}  // namespace trireme
