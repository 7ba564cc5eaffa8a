#include "server/openai.h"

#include <algorithm>
#include <utility>

#include "runtime/request.h"
#include "server/admission.h"
#include "server/chat.h"
#include "server/json_body.h"
#include "server/keys.h"
#include "server/openai_fields.h"
#include "server/request_fault.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

std::optional<float> Float(std::optional<double> value) {
  if (!value.has_value()) return std::nullopt;
  return static_cast<float>(*value);
}

// A string, token ids, or an array of either.
std::vector<GenerateRequest> Prompts(JsonBody& body, const GenerateRequest& common) {
  std::vector<GenerateRequest> requests;
  const auto add_text = [&](const Json& text) {
    requests.push_back(common);
    requests.back().text = text.get<std::string>();
  };
  const auto is_ids = [](const Json& v) {
    return v.is_array() && !v.empty() && std::ranges::all_of(v, [](const Json& id) {
             return id.is_number_integer() && id.get<int64_t>() >= 0 &&
                    id.get<int64_t>() <= INT32_MAX;
           });
  };
  const auto add_ids = [&](const Json& ids) {
    requests.push_back(common);
    requests.back().ids = ids.get<std::vector<int32_t>>();
  };
  const Json* prompt = body.Find("prompt");
  if (prompt == nullptr) {
    body.Fail("prompt", "is missing");
  } else if (prompt->is_string()) {
    add_text(*prompt);
  } else if (is_ids(*prompt)) {
    add_ids(*prompt);
  } else if (prompt->is_array() && !prompt->empty() &&
             std::ranges::all_of(*prompt, [](const Json& p) { return p.is_string(); })) {
    for (const Json& text : *prompt) add_text(text);
  } else if (prompt->is_array() && !prompt->empty() && std::ranges::all_of(*prompt, is_ids)) {
    for (const Json& ids : *prompt) add_ids(ids);
  } else {
    body.Fail("prompt", "expected a string, token ids, or an array of either");
  }
  if (requests.size() > kMaxPrompts) {
    body.Fail("prompt",
              StrCat("has ", requests.size(), " prompts; at most ", kMaxPrompts, " are possible"));
  }
  return requests;
}

// As inference.proto has it, in lower case.
void ReadDisconnect(JsonBody& body, GenerateRequest& request) {
  const std::string what = body.Text("on_disconnect").value_or("cancel");
  const auto ttl_s = body.Number("detach_ttl_s");
  if (what == "detach") {
    request.detach_s = ttl_s.value_or(kDefaultDetachSeconds);
  } else if (what != "cancel") {
    body.Fail("on_disconnect", "expected \"cancel\" or \"detach\"");
  } else if (ttl_s.has_value()) {
    body.Fail("detach_ttl_s", "is for on_disconnect \"detach\"");
  }
}

// What is kept for each prompt and each choice is bounded before there is one.
void CheckSize(JsonBody& body, const GenerateRequest& request) {
  if (const int32_t n = request.n.value_or(1); n < 1 || n > kMaxChoices) {
    body.Fail("n", StrCat("is ", n, "; it must be in [1, ", kMaxChoices, "]"));
  }
  const auto check = [&](const char* field, size_t n, size_t most) {
    if (n > most) body.Fail(field, StrCat("has ", n, "; at most ", most, " are possible"));
  };
  size_t stop_bytes = 0;
  for (const std::string& stop : request.stop) stop_bytes += stop.size();
  check("stop", request.stop.size(), kMaxStops);
  check("stop", stop_bytes, kMaxStopBytes);
  check("stop_token_ids", request.stop_token_ids.size(), kMaxStopIds);
  check("logit_bias", request.logit_bias.size(), kMaxBiases);
  check("cache_salt", request.cache_salt.size(), kMaxCacheSaltBytes);
}

// What completions and chats have in common.
GenerateRequest Sampling(JsonBody& body) {
  GenerateRequest request;
  request.model = body.Text("model").value_or("");
  request.n = body.Int("n");
  request.temperature = Float(body.Number("temperature"));
  request.top_p = Float(body.Number("top_p"));
  request.top_k = body.Int("top_k");
  if (request.top_k == -1) request.top_k = 0;  // vLLM's "all"
  request.min_p = Float(body.Number("min_p"));
  if (const auto seed = body.Whole("seed", INT64_MIN, INT64_MAX)) {
    request.seed = static_cast<uint64_t>(*seed);
  }
  request.stop = body.TextOrTexts("stop");
  request.stop_token_ids = body.Ints("stop_token_ids");
  request.ignore_eos = body.Bool("ignore_eos").value_or(false);
  request.min_tokens = body.Int("min_tokens");
  request.priority = body.Int("priority").value_or(0);
  request.cache_salt = body.Text("cache_salt").value_or("");
  request.repetition_penalty = Float(body.Number("repetition_penalty"));
  request.presence_penalty = Float(body.Number("presence_penalty"));
  request.frequency_penalty = Float(body.Number("frequency_penalty"));
  request.logit_bias = body.NumbersById("logit_bias");
  request.dropout = Float(body.Number("dropout"));
  request.timeout_s = body.Number("timeout_s");
  ReadDisconnect(body, request);
  request.add_special_tokens = body.Bool("add_special_tokens");
  CheckSize(body, request);
  return request;
}

// What is no part of the requests: how they are told of, and by which name.
void ReadCall(JsonBody& body, CompletionCall& call) {
  call.request_id = body.Text("request_id").value_or("");
  call.digest = Sha256(body.TextWithout("request_id"));
  call.include_stop = body.Bool("include_stop_str_in_output").value_or(false);
  call.stream = body.Bool("stream").value_or(false);
  if (const Json* options = body.Find("stream_options")) {
    if (!call.stream) body.Fail("stream_options", "is for streams");
    if (!options->is_object()) {
      body.Fail("stream_options", "expected an object");
    } else if (auto usage = options->find("include_usage");
               usage != options->end() && !usage->is_null()) {
      if (!usage->is_boolean())
        body.Fail("stream_options", "include_usage: expected true or false");
      call.include_usage = usage->is_boolean() && usage->get<bool>();
    }
  }
}

// Of completions: echoed prompts have them, too.
void ReadLogprobs(JsonBody& body, GenerateRequest& request) {
  const Json* logprobs = body.Find("logprobs");
  if (logprobs != nullptr && *logprobs != false) request.logprobs = body.Int("logprobs");
  request.prompt_logprobs = body.Int("prompt_logprobs");
  if (request.echo && request.logprobs.has_value()) {
    request.prompt_logprobs = std::max(request.prompt_logprobs.value_or(0), *request.logprobs);
  }
}

// "content" as one text; null stays null.
void FlattenContent(JsonBody& body, Json& message) {
  auto content = message.find("content");
  if (content == message.end() || content->is_null() || content->is_string()) return;
  std::string text;
  const bool parts = content->is_array() && std::ranges::all_of(*content, [&](const Json& part) {
                       if (!part.is_object() || part.value("type", Json()) != "text") return false;
                       auto it = part.find("text");
                       if (it == part.end() || !it->is_string()) return false;
                       text += it->get<std::string>();
                       return true;
                     });
  if (!parts) return body.Fail("messages", "content: expected a string or parts of type text");
  *content = std::move(text);
}

void ReadArguments(JsonBody& body, Json& message) {
  auto calls = message.find("tool_calls");
  if (calls == message.end() || calls->is_null()) return;
  if (!calls->is_array()) return body.Fail("messages", "tool_calls: expected an array");
  for (Json& call : *calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) {
      return body.Fail("messages", "tool_calls: expected objects with a function");
    }
    auto arguments = call["function"].find("arguments");
    if (arguments == call["function"].end() || !arguments->is_string()) continue;
    const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth < 64; };
    Json parsed = Json::parse(arguments->get<std::string>(), shallow, /*allow_exceptions=*/false);
    if (parsed.is_object()) *arguments = std::move(parsed);
  }
}

Json Messages(JsonBody& body) {
  const Json* given = body.Find("messages");
  if (given == nullptr || !given->is_array() || given->empty()) {
    body.Fail("messages", "expected an array with at least one message");
    return {};
  }
  Json messages = *given;
  for (Json& message : messages) {
    if (!message.is_object() || !message.value("role", Json()).is_string()) {
      body.Fail("messages", "expected objects with a role");
      return {};
    }
    FlattenContent(body, message);
    ReadArguments(body, message);
  }
  return messages;
}

std::shared_ptr<const Chat> ReadChat(JsonBody& body) {
  auto chat = std::make_shared<Chat>();
  chat->messages = Messages(body);
  chat->add_generation_prompt = body.Bool("add_generation_prompt").value_or(true);
  if (const Json* variables = body.Find("chat_template_kwargs")) {
    variables->is_object() ? void(chat->variables = *variables)
                           : body.Fail("chat_template_kwargs", "expected an object");
  }
  // As in vLLM it is the template's: models without reasoning have no use for it.
  if (const auto effort = body.Text("reasoning_effort")) {
    chat->variables["reasoning_effort"] = *effort;
    if (!chat->variables.contains("enable_thinking")) {
      chat->variables["enable_thinking"] = *effort != "none";
    }
  }
  return chat;
}

// Of chats.
void ReadTopLogprobs(JsonBody& body, GenerateRequest& request) {
  const auto n_top = body.Whole("top_logprobs", 0, kMaxTopLogprobs);
  if (body.Bool("logprobs").value_or(false)) {
    request.logprobs = static_cast<int32_t>(n_top.value_or(0));
  } else if (n_top.value_or(0) != 0) {
    body.Fail("top_logprobs", "needs logprobs: true");
  }
}

}  // namespace

std::string CompletionCall::ParamOf(const absl::Status& status) const {
  const std::string field = FieldOf(status);
  if (field == "prompt" && is_chat) return "messages";
  if (field == "max_tokens" && max_completion_tokens) return "max_completion_tokens";
  return field;
}

absl::StatusOr<CompletionCall> ParseCompletion(const std::string& text, std::string* param) {
  ASSIGN_OR_RETURN(JsonBody body, JsonBody::Parse(text));
  CompletionCall call;
  GenerateRequest common = Sampling(body);
  constexpr int32_t kDefaultMaxTokens = 16;  // OpenAI's for completions
  common.max_tokens = body.Int("max_tokens").value_or(kDefaultMaxTokens);
  common.echo = body.Bool("echo").value_or(false);
  call.model = common.model;
  ReadLogprobs(body, common);
  call.prompt_logprobs = body.Int("prompt_logprobs").has_value();
  if (const auto best_of = body.Int("best_of"); best_of && *best_of != common.n.value_or(1)) {
    body.Fail("best_of", "is not supported beyond n");
  }
  ReadCall(body, call);
  if (call.stream && call.prompt_logprobs) body.Fail("prompt_logprobs", "is not for streams");
  RefuseUnsupported(body, kCompletions);
  call.requests = Prompts(body, common);
  RETURN_IF_ERROR(body.StatusAndParam(param));
  return call;
}

absl::StatusOr<CompletionCall> ParseChat(const std::string& text, std::string* param) {
  ASSIGN_OR_RETURN(JsonBody body, JsonBody::Parse(text));
  CompletionCall call{.is_chat = true};
  GenerateRequest request = Sampling(body);
  call.max_completion_tokens = body.Find("max_completion_tokens") != nullptr;
  request.max_tokens =
      body.Int(call.max_completion_tokens ? "max_completion_tokens" : "max_tokens");
  call.model = request.model;
  ReadCall(body, call);
  request.chat = ReadChat(body);
  ReadTopLogprobs(body, request);
  RefuseUnsupported(body, kChats);
  RETURN_IF_ERROR(body.StatusAndParam(param));
  call.requests.push_back(std::move(request));
  return call;
}

absl::StatusOr<std::shared_ptr<const Chat>> ParseMessages(const std::string& json) {
  ASSIGN_OR_RETURN(JsonBody body, JsonBody::Parse("{\"messages\":" + json + "}"));
  auto chat = std::make_shared<Chat>();
  chat->messages = Messages(body);
  RETURN_IF_ERROR(body.status());
  return chat;
}

absl::StatusOr<TokenizeCall> ParseTokenize(const std::string& text, std::string* param) {
  ASSIGN_OR_RETURN(JsonBody body, JsonBody::Parse(text));
  TokenizeCall call{.model = body.Text("model").value_or("")};
  const auto prompt = body.Text("prompt");
  if (body.Find("messages") != nullptr) {
    call.chat = ReadChat(body);
    if (prompt.has_value()) body.Fail("prompt", "is for a text, messages for a chat: send one");
  } else if (!prompt.has_value()) {
    body.Fail("prompt", "is missing: send a text, or messages");
  }
  call.prompt = prompt.value_or("");
  call.add_special_tokens = body.Bool("add_special_tokens").value_or(call.chat == nullptr);
  call.return_token_strs = body.Bool("return_token_strs").value_or(false);
  RefuseUnsupported(body, kTokenize);
  RETURN_IF_ERROR(body.StatusAndParam(param));
  return call;
}

}  // namespace trireme
