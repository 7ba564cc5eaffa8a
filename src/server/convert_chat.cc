#include <utility>

#include "server/convert.h"
#include "server/json_body.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

// Names of a message's fields that the proto has, too; `extra` holds the others.
constexpr const char* kRole = "role";
constexpr const char* kContent = "content";
constexpr const char* kToolCalls = "tool_calls";
constexpr const char* kToolCallId = "tool_call_id";
constexpr const char* kName = "name";

absl::StatusOr<Json> ParseObject(const std::string& text, const std::string& field) {
  if (text.empty()) return Json::object();
  auto json = ParseShallowJson(text);
  if (json.ok() && json->is_object()) return json;
  return InvalidArgument(field, ": expected a JSON object, at most ", kMostJsonDepth,
                         " levels deep");
}

std::string Text(const Json& json, const char* field) {
  auto it = json.find(field);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

absl::StatusOr<Json> FromProto(const v1::ToolCall& call, const std::string& where) {
  ASSIGN_OR_RETURN(Json arguments, ParseObject(call.arguments(), where + ".arguments"));
  return Json{{"id", call.id()},
              {"type", "function"},
              {"function", {{"name", call.name()}, {"arguments", std::move(arguments)}}}};
}

absl::StatusOr<Json> FromProto(const v1::ChatMessage& message, const std::string& where) {
  if (message.role().empty()) return InvalidArgument(where, ".role is empty");
  Json json = {{kRole, message.role()}, {kContent, nullptr}};
  if (message.has_content()) json[kContent] = message.content();
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    ASSIGN_OR_RETURN(Json call,
                     FromProto(message.tool_calls(i), StrCat(where, ".tool_calls[", i, "]")));
    json[kToolCalls].push_back(std::move(call));
  }
  if (!message.tool_call_id().empty()) json[kToolCallId] = message.tool_call_id();
  if (!message.name().empty()) json[kName] = message.name();
  ASSIGN_OR_RETURN(const Json extra, ParseObject(message.extra(), where + ".extra"));
  for (const auto& [name, value] : extra.items()) {
    if (json.contains(name)) return InvalidArgument(where, ".extra: ", name, " has its own field");
    json[name] = value;
  }
  return json;
}

v1::ChatMessage ToProto(Json message) {
  v1::ChatMessage proto;
  proto.set_role(Text(message, kRole));
  if (auto it = message.find(kContent); it != message.end() && it->is_string()) {
    proto.set_content(it->get<std::string>());
  }
  if (auto calls = message.find(kToolCalls); calls != message.end()) {
    for (const Json& call : *calls) {
      v1::ToolCall* to = proto.add_tool_calls();
      const Json function = call.value("function", Json::object());
      to->set_id(Text(call, "id"));
      to->set_name(Text(function, kName));
      to->set_arguments(function.value("arguments", Json::object()).dump());
    }
  }
  proto.set_tool_call_id(Text(message, kToolCallId));
  proto.set_name(Text(message, kName));
  for (const char* field : {kRole, kContent, kToolCalls, kToolCallId, kName}) message.erase(field);
  if (!message.empty()) proto.set_extra(message.dump());
  return proto;
}

}  // namespace

absl::StatusOr<Chat> FromProto(const v1::Chat& proto) {
  if (proto.messages().empty()) return InvalidArgument("chat.messages: expected at least one");
  Chat chat;
  for (int i = 0; i < proto.messages_size(); ++i) {
    ASSIGN_OR_RETURN(Json message, FromProto(proto.messages(i), StrCat("chat.messages[", i, "]")));
    chat.messages.push_back(std::move(message));
  }
  if (proto.has_add_generation_prompt()) chat.add_generation_prompt = proto.add_generation_prompt();
  ASSIGN_OR_RETURN(chat.variables, ParseObject(proto.template_kwargs(), "chat.template_kwargs"));
  return chat;
}

v1::Chat ToProto(const Chat& chat) {
  v1::Chat proto;
  for (const Json& message : chat.messages) *proto.add_messages() = ToProto(message);
  proto.set_add_generation_prompt(chat.add_generation_prompt);
  if (!chat.variables.empty()) proto.set_template_kwargs(chat.variables.dump());
  return proto;
}

}  // namespace trireme
