#include "text/chat_template.h"

#include <algorithm>

#include "text/jinja/evaluator.h"
#include "text/jinja/json.h"
#include "text/jinja/parser.h"
#include "text/quoted.h"
#include "text/utf8.h"

namespace trireme {
namespace {

// On one line that fits on a screen: a message may quote what a client sent.
absl::Status Shortened(const absl::Status& status) {
  constexpr size_t kMaxCharacters = 400;
  const std::string message = Message(status);
  std::string out = "chat template: ";
  size_t n = 0;
  for (size_t pos = 0; pos < message.size();) {
    if (n++ == kMaxCharacters) {
      out += "…";
      break;
    }
    const char32_t c = text::DecodeAt(message, &pos);
    const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029;
    text::AppendUtf8(control ? U' ' : c, &out);
  }
  return absl::Status(status.code(), out);
}

absl::Status Refuse(std::string_view key, std::string_view what) {
  return InvalidArgument("tokenizer_config.json: ", text::Quoted(key), " ", what);
}

}  // namespace

struct ChatTemplate::Parts {
  jinja::Body body;
};

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  absl::StatusOr<jinja::Body> body = jinja::Parse(source);
  if (!body.ok()) return Shortened(body.status());
  return ChatTemplate(std::make_shared<const Parts>(Parts{*std::move(body)}));
}

absl::StatusOr<std::string> ChatTemplate::Render(const ChatInput& input,
                                                 const jinja::Limits& limits) const {
  jinja::Runtime runtime(limits, input.now);
  std::vector<std::pair<std::string, jinja::Value>> variables;
  const auto set = [&](const std::string& name, const nlohmann::ordered_json& json) {
    absl::StatusOr<jinja::Value> value = jinja::FromJson(runtime, json);
    if (!value.ok()) return Shortened(Annotate(value.status(), text::Quoted(name)));
    variables.emplace_back(name, *std::move(value));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(set("messages", input.messages));
  RETURN_IF_ERROR(set("tools", input.tools));
  RETURN_IF_ERROR(set("documents", input.documents));
  RETURN_IF_ERROR(set("add_generation_prompt", input.add_generation_prompt));
  if (!input.variables.is_object()) return InvalidArgument("the variables must be an object");
  for (const auto& [name, value] : input.variables.items()) RETURN_IF_ERROR(set(name, value));
  absl::StatusOr<std::string> text = jinja::Evaluate(runtime, parts_->body, std::move(variables));
  if (!text.ok()) return Shortened(text.status());
  return text;
}

const std::string* ChatTemplateFiles::Choose(bool with_tools) const {
  const auto find = [this](std::string_view name) -> const std::string* {
    for (const auto& [key, source] : templates) {
      if (key == name) return &source;
    }
    return nullptr;
  };
  const std::string* tool_use = with_tools ? find("tool_use") : nullptr;
  return tool_use != nullptr ? tool_use : find("default");
}

absl::StatusOr<ChatTemplateFiles> ReadChatTemplate(std::string_view tokenizer_config,
                                                   std::optional<std::string_view> chat_template) {
  ChatTemplateFiles files;
  nlohmann::ordered_json config = nlohmann::ordered_json::object();
  if (!tokenizer_config.empty()) {
    config = nlohmann::ordered_json::parse(tokenizer_config, nullptr, /*allow_exceptions=*/false);
    if (!config.is_object()) {
      return InvalidArgument("tokenizer_config.json: not valid JSON, or no object");
    }
  }
  for (const auto& [key, value] : config.items()) {
    if (!key.ends_with("_token") || !(value.is_string() || value.is_object())) continue;
    if (value.is_string()) {
      files.special_tokens[key] = value;
    } else if (value.contains("content") && value["content"].is_string()) {
      files.special_tokens[key] = value["content"];
    } else {
      return Refuse(key, "must be a string or have a \"content\" that is one");
    }
  }
  const nlohmann::ordered_json given = config.value("chat_template", nlohmann::ordered_json());
  if (chat_template) {
    files.templates.emplace_back("default", *chat_template);
  } else if (given.is_string()) {
    files.templates.emplace_back("default", given.get<std::string>());
  } else if (given.is_array()) {
    for (const auto& item : given) {
      if (!item.is_object() || !item.contains("name") || !item["name"].is_string() ||
          !item.contains("template") || !item["template"].is_string()) {
        return Refuse("chat_template", "must list objects with a \"name\" and a \"template\"");
      }
      files.templates.emplace_back(item["name"], item["template"]);
    }
  } else if (!given.is_null()) {
    return Refuse("chat_template", "must be a string or a list");
  }
  return files;
}

}  // namespace trireme
