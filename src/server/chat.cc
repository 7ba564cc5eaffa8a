#include "server/chat.h"

#include <ctime>
#include <utility>

namespace trireme {

absl::StatusOr<ChatTemplates> ChatTemplates::Make(const std::string& tokenizer_config,
                                                  const std::string& chat_template) {
  std::optional<std::string_view> file;
  if (!chat_template.empty()) file = chat_template;
  auto files = ReadChatTemplate(tokenizer_config, file);
  if (!files.ok()) return FailedPrecondition(Message(files.status()));
  const std::string* source = files->Choose(/*with_tools=*/false);
  if (source == nullptr) return FailedPrecondition("the model has no chat template: use prompts");
  auto plain = ChatTemplate::Parse(*source);
  if (!plain.ok()) return FailedPrecondition(Message(plain.status()));
  return ChatTemplates(*std::move(plain), std::move(files->special_tokens));
}

absl::StatusOr<std::string> ChatTemplates::Render(const Chat& chat) const {
  ChatInput input{.messages = chat.messages,
                  .add_generation_prompt = chat.add_generation_prompt,
                  .variables = special_tokens_};
  input.variables.update(chat.variables);
  const std::time_t now = std::time(nullptr);
  localtime_r(&now, &input.now);
  return plain_.Render(input);
}

}  // namespace trireme
