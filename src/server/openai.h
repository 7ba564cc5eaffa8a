// The bodies of OpenAI's HTTP API -> requests. Fields and meanings are those of its API reference,
// with vLLM's extensions and some of inference.proto's. No I/O.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "server/api.h"

namespace trireme {

inline constexpr size_t kMaxPrompts = 256;

struct CompletionCall {
  bool is_chat = false;
  std::vector<GenerateRequest> requests;  // one per prompt; one of a chat
  std::string request_id;                 // of the body; empty: none
  std::string digest;                     // of the body but its request_id
  bool prompt_logprobs = false;           // vLLM's field of that name
  bool include_stop = false;              // texts have what ended them: include_stop_str_in_output
  std::string model;                      // as it was asked for
  bool stream = false;
  bool include_usage = false;
  bool max_completion_tokens = false;  // is the name by which max_tokens came

  // The field at fault, as this endpoint calls it; empty: none.
  std::string ParamOf(const absl::Status& status) const;
};

// What parses a body. INVALID_ARGUMENT, and in `param` the field: of a wrong type, out of range, or
// one that is known, would change the answer and is not supported (openai_fields.h). Fields that
// nobody knows are ignored; null is unset.
using ParseCall = absl::StatusOr<CompletionCall>(const std::string& body, std::string* param);

// Of POST /v1/completions.
ParseCall ParseCompletion;

// Of POST /v1/chat/completions. The content of messages becomes text, arguments of tool calls that
// are JSON in a string become what they say.
ParseCall ParseChat;

// The messages of a chat alone, as they stand in such a body: a JSON array.
absl::StatusOr<std::shared_ptr<const Chat>> ParseMessages(const std::string& json);

// The body of POST /tokenize, as vLLM has it.
struct TokenizeCall {
  std::string model;
  std::string prompt;
  std::shared_ptr<const Chat> chat;  // the prompt is made of it; or null
  bool add_special_tokens = true;
  bool return_token_strs = false;
};
absl::StatusOr<TokenizeCall> ParseTokenize(const std::string& body, std::string* param);

}  // namespace trireme
