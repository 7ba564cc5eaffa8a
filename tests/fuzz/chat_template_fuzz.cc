// Any bytes as a chat template, and any JSON as the conversation that it renders.
// Input: the template, then behind a NUL an object with messages, tools and whatever variables the
// template asks for. Where there is no such object, a conversation with everything in it is taken.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/chat_template.h"
#include "text/utf8.h"

namespace trireme {
namespace {

constexpr char kConversation[] = R"({
  "messages":[{"role":"system","content":" Be brief. "},
    {"role":"user","content":[{"type":"text","text":"naïve ß"},{"type":"image"}]},
    {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[
      {"id":"call_1","type":"function","function":{"name":"f","arguments":{"a":[1,2.5,null,true]}}}]},
    {"role":"tool","content":"{}","tool_call_id":"call_1","name":"f"},
    {"role":"assistant","content":"<think>a</think>b"},{"role":"user","content":"\u2028\n<&>'\""}],
  "tools":[{"type":"function","function":{"name":"f","description":"d\nd","parameters":{
    "type":"object","required":["a"],"properties":{"a":{"type":"array","items":{"type":"number"}}}}}}],
  "bos_token":"<s>","eos_token":"</s>","n":7,"s":"Hello, World","list":[3,1,2],"d":{"b":1,"a":2}})";

// One line that fits on a screen.
void CheckError(const absl::Status& status) {
  const std::string message = Message(status);
  CHECK(!message.empty() && message.size() < 2000) << message.size();
  CHECK(message.find('\n') == std::string::npos) << message;
  CHECK(text::FindInvalidUtf8(message) == std::string::npos) << message;
}

ChatInput InputOf(std::string_view text) {
  using Json = nlohmann::ordered_json;
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) json = Json::parse(kConversation);
  ChatInput input;
  if (json.contains("messages")) input.messages = std::move(json["messages"]);
  if (json.contains("tools")) input.tools = std::move(json["tools"]);
  json.erase("messages");
  json.erase("tools");
  input.variables = std::move(json);
  input.now.tm_mday = 1;
  return input;
}

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Parse(input.substr(0, end));
  if (!chat_template.ok()) {
    CheckError(chat_template.status());
    return 0;
  }
  const ChatInput conversation = InputOf(input.substr(std::min(end + 1, input.size())));
  constexpr jinja::Limits kLimits = {.steps = 100'000, .bytes = 8 << 20};
  const absl::StatusOr<std::string> text = chat_template->Render(conversation, kLimits);
  if (!text.ok()) {
    CheckError(text.status());
  } else {
    CHECK(text::FindInvalidUtf8(*text) == std::string::npos);
    CHECK_LE(static_cast<int64_t>(text->size()), kLimits.bytes);
    CHECK(*chat_template->Render(conversation, kLimits) == *text) << "another time, another text";
  }
  return 0;
}
