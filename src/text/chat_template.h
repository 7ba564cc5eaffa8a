// A conversation -> the text of a prompt, as a model's chat template says (the Jinja templates of
// Hugging Face's tokenizers).
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/jinja/runtime.h"

namespace trireme {

// What a template sees, by its names there.
struct ChatInput {
  // As the template shall see them: not every template takes content that is a list of parts, or a
  // tool call's arguments as the string that OpenAI's clients send instead of an object.
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  nlohmann::ordered_json tools;      // null: none. The order of keys is kept.
  nlohmann::ordered_json documents;  // null: none
  bool add_generation_prompt = true;
  // Set last, over what has the same name: bos_token, enable_thinking, date_string …
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  std::tm now = {};  // what strftime_now formats
};

// Immutable, thread-safe.
//
// Gives what jinja2 3.1 gives in the environment that Hugging Face's apply_chat_template makes
// (sandboxed and immutable, trim_blocks, lstrip_blocks, loop controls, `generation`, its own
// tojson, raise_exception and strftime_now). Known differences: integers have at most 127 bits;
// filters that give iterators compute all items at once; a capital sigma at a word's end becomes a
// plain small one.
class ChatTemplate {
 public:
  // Errors are one line: "chat template: line 3: …". INVALID_ARGUMENT for what jinja2 refuses, too,
  // unknown filters and tests among it; UNIMPLEMENTED for what is not supported here
  // (jinja/parser.h says what).
  static absl::StatusOr<ChatTemplate> Parse(std::string_view source);

  // INVALID_ARGUMENT where the template cannot be applied to this input, or refuses it with
  // raise_exception; RESOURCE_EXHAUSTED beyond `limits`. One line, as above.
  absl::StatusOr<std::string> Render(const ChatInput& input,
                                     const jinja::Limits& limits = {}) const;

 private:
  struct Parts;
  explicit ChatTemplate(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

// What a model's directory says about its chats.
struct ChatTemplateFiles {
  // By name; the plain one is "default". Empty if the model has none.
  std::vector<std::pair<std::string, std::string>> templates;
  nlohmann::ordered_json special_tokens = nlohmann::ordered_json::object();  // "bos_token": "<s>" …

  // The one for a request: "tool_use" with tools, if there is one, or "default"; nullptr if there
  // is none.
  const std::string* Choose(bool with_tools) const;
};

// `tokenizer_config`: the contents of tokenizer_config.json, or "" if there is no such file: its
// chat_template is a string or a list of {name, template}, its special tokens are strings or
// {content: …}. `chat_template`: the contents of chat_template.jinja, which goes before the other.
// INVALID_ARGUMENT names the key that is malformed.
absl::StatusOr<ChatTemplateFiles> ReadChatTemplate(std::string_view tokenizer_config,
                                                   std::optional<std::string_view> chat_template);

}  // namespace trireme
