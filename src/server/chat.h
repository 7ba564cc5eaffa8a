// Chats: a conversation, and the templates by which a model makes a prompt of it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "nlohmann/json.hpp"
#include "text/chat_template.h"

namespace trireme {

// As templates see it: the content of each message is a string, the arguments of a tool call are an
// object.
struct Chat {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();  // chat_template_kwargs
  bool add_generation_prompt = true;
};

// A model's templates. Immutable, thread-safe.
class ChatTemplates {
 public:
  // Of tokenizer_config.json and chat_template.jinja; empty texts: absent. FAILED_PRECONDITION if
  // there is no template, or why there is none that can be used.
  static absl::StatusOr<ChatTemplates> Make(const std::string& tokenizer_config,
                                            const std::string& chat_template);

  // The prompt, special tokens included. INVALID_ARGUMENT if the template refuses the conversation.
  absl::StatusOr<std::string> Render(const Chat& chat) const;

 private:
  ChatTemplates(ChatTemplate plain, nlohmann::ordered_json special_tokens)
      : plain_(std::move(plain)), special_tokens_(std::move(special_tokens)) {}

  ChatTemplate plain_;
  nlohmann::ordered_json special_tokens_;
};

}  // namespace trireme
