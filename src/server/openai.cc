#include "server/openai.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/chat.h"
#include "server/json_body.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

// As one line; bytes that are no UTF-8 (a token may end inside a character) become U+FFFD.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

struct ErrorKind {
  int http_status;
  const char* type;
  const char* code;
};

ErrorKind KindOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return {400, "invalid_request_error", nullptr};
    case absl::StatusCode::kUnauthenticated:
      return {401, "authentication_error", "invalid_api_key"};
    case absl::StatusCode::kPermissionDenied:
      return {403, "permission_error", nullptr};
    case absl::StatusCode::kNotFound:
      return {404, "invalid_request_error", "model_not_found"};
    case absl::StatusCode::kAlreadyExists:
      return {409, "invalid_request_error", "already_exists"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "rate_limit_exceeded"};
    case absl::StatusCode::kCancelled:
      return {499, "invalid_request_error", "cancelled"};
    case absl::StatusCode::kUnavailable:
      return {503, "server_error", "unavailable"};
    case absl::StatusCode::kAborted:
      return {503, "server_error", "aborted"};
    case absl::StatusCode::kDeadlineExceeded:
      return {504, "server_error", "timeout"};
    default:
      return {500, "server_error", nullptr};
  }
}

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
  request.request_id = body.Text("request_id").value_or("");
  request.repetition_penalty = Float(body.Number("repetition_penalty"));
  request.presence_penalty = Float(body.Number("presence_penalty"));
  request.frequency_penalty = Float(body.Number("frequency_penalty"));
  request.logit_bias = body.NumbersById("logit_bias");
  for (const char* field :
       {"response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
        "bad_words", "allowed_token_ids", "truncate_prompt_tokens", "logits_processors"}) {
    body.RefuseUnless(field, {Json{{"type", "text"}}});
  }
  body.RefuseUnless("use_beam_search", {false});
  return request;
}

void ReadStream(JsonBody& body, CompletionCall& call) {
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

}  // namespace

OpenAiError ToOpenAiError(const absl::Status& status, const std::string& param) {
  const ErrorKind kind = KindOf(status.code());
  Json error = {
      {"message", Message(status)}, {"type", kind.type}, {"param", nullptr}, {"code", nullptr}};
  if (!param.empty()) error["param"] = param;
  if (kind.code != nullptr) error["code"] = kind.code;
  return {kind.http_status, Dump({{"error", error}})};
}

std::string ServerSentEvent(const std::string& data) { return "data: " + data + "\n\n"; }

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
  body.RefuseUnless("suffix", {""});
  if (const auto best_of = body.Int("best_of"); best_of && *best_of != common.n.value_or(1)) {
    body.Fail("best_of", "is not supported beyond n");
  }
  ReadStream(body, call);
  if (call.stream && call.prompt_logprobs) body.Fail("prompt_logprobs", "is not for streams");
  call.requests = Prompts(body, common);
  if (!body.status().ok()) {
    *param = body.param();
    return body.status();
  }
  return call;
}

absl::StatusOr<CompletionCall> ParseChat(const std::string& text, std::string* param) {
  ASSIGN_OR_RETURN(JsonBody body, JsonBody::Parse(text));
  CompletionCall call{.is_chat = true};
  GenerateRequest request = Sampling(body);
  request.max_tokens = body.Int("max_completion_tokens");
  if (!request.max_tokens.has_value()) request.max_tokens = body.Int("max_tokens");
  call.model = request.model;
  ReadStream(body, call);
  auto chat = std::make_shared<Chat>();
  chat->messages = Messages(body);
  chat->add_generation_prompt = body.Bool("add_generation_prompt").value_or(true);
  if (const Json* variables = body.Find("chat_template_kwargs")) {
    variables->is_object() ? void(chat->variables = *variables)
                           : body.Fail("chat_template_kwargs", "expected an object");
  }
  if (body.Text("tool_choice") != "none") body.RefuseUnless("tools", {Json::array()});
  for (const char* field : {"functions", "audio", "web_search_options", "chat_template",
                            "documents", "reasoning_effort"}) {
    body.RefuseUnless(field, {});
  }
  const auto top_logprobs = body.Int("top_logprobs");
  if (body.Bool("logprobs").value_or(false)) {
    request.logprobs = top_logprobs.value_or(0);
  } else if (top_logprobs.value_or(0) != 0) {
    body.Fail("top_logprobs", "needs logprobs: true");
  }
  body.RefuseUnless("prompt_logprobs", {});
  body.RefuseUnless("continue_final_message", {false});
  body.RefuseUnless("modalities", {Json::array({"text"})});
  if (!body.status().ok()) {
    *param = body.param();
    return body.status();
  }
  request.chat = std::move(chat);
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

CompletionAnswer::CompletionAnswer(const CompletionCall& call, std::string id, int64_t created,
                                   std::string model, std::shared_ptr<const Tokenizer> tokenizer)
    : is_chat_(call.is_chat),
      stream_(call.stream),
      include_usage_(call.include_usage),
      id_(std::move(id)),
      model_(std::move(model)),
      created_(created),
      n_(static_cast<size_t>(std::max(1, call.requests[0].n.value_or(1)))),
      n_top_(call.requests[0].logprobs),
      echo_(call.requests[0].echo),
      prompt_logprobs_(call.prompt_logprobs),
      speller_(std::move(tokenizer)),
      n_open_(call.requests.size()),
      choices_(call.requests.size() * n_),
      usages_(call.requests.size()),
      prompts_(call.requests.size()) {}

std::string CompletionAnswer::Add(size_t prompt, Event&& event) {
  if (error_.has_value()) return "";
  const bool last = IsLast(event);
  std::string out;
  if (auto* accepted = std::get_if<Accepted>(&event)) {
    prompts_[prompt] = std::move(*accepted);
    for (size_t i = 0; i < n_; ++i) {
      if (is_chat_ && stream_) {
        out += ChunkOf(i, {{"role", "assistant"}, {"content", ""}}, nullptr);
      } else if (!n_top_.has_value()) {  // else it comes with its logprobs
        out += AddText(prompt * n_ + i, prompts_[prompt].prompt_text);
      }
    }
  } else if (auto* delta = std::get_if<Delta>(&event)) {
    out = AddDelta(prompt, *delta);
  } else if (auto* waiting = std::get_if<Waiting>(&event)) {
    if (stream_) out = ": " + waiting->reason + "\n\n";
  } else if (auto* finished = std::get_if<Finished>(&event)) {
    // A choice that its deadline cut off is one that was too long.
    const char* reason = finished->reason == FinishReason::kStop ? "stop" : "length";
    const size_t index = prompt * n_ + finished->choice;
    choices_[index].finish_reason = reason;
    Usage& usage = usages_[prompt];
    usage.prompt_tokens = finished->usage.prompt_tokens;
    usage.completion_tokens += finished->usage.completion_tokens;
    usage.cached_tokens = std::max(usage.cached_tokens, finished->usage.cached_tokens);
    out = Begin(prompt, finished->choice, {});
    if (stream_) out += ChunkOf(index, is_chat_ ? Json::object() : DeltaOf(""), reason);
  } else {
    error_ = std::get<absl::Status>(event);
    if (stream_) out = ServerSentEvent(ToOpenAiError(*error_).body) + ServerSentEvent("[DONE]");
    return out;
  }
  if (last && --n_open_ == 0 && stream_) out += EndOfStream();
  return out;
}

std::string CompletionAnswer::AddText(size_t index, const std::string& text, Logprobs logprobs) {
  if (stream_) {
    const bool nothing = text.empty() && logprobs.json().is_null();
    return nothing ? "" : ChunkOf(index, DeltaOf(text), nullptr, logprobs);
  }
  choices_[index].text += text;
  choices_[index].logprobs.Append(logprobs);
  return "";
}

std::string CompletionAnswer::AddDelta(size_t prompt, const Delta& delta) {
  std::string out = Begin(prompt, delta.choice, delta.prompt_logprobs);
  const size_t index = prompt * n_ + delta.choice;
  Logprobs logprobs;
  for (size_t i = 0; i < delta.logprobs.size(); ++i) {
    if (is_chat_) {
      logprobs.AddToChat(speller_, delta.ids[i], delta.logprobs[i]);
    } else {
      logprobs.AddToCompletion(speller_, delta.ids[i], &delta.logprobs[i], *n_top_,
                               &choices_[index].offset);
    }
  }
  return out += AddText(index, delta.text, std::move(logprobs));
}

std::string CompletionAnswer::Begin(size_t prompt, uint32_t choice_of_prompt,
                                    const std::vector<TokenLogprobs>& logprobs) {
  const size_t index = prompt * n_ + choice_of_prompt;
  Choice& choice = choices_[index];
  if (std::exchange(choice.begun, true)) return "";
  const std::vector<int32_t>& ids = prompts_[prompt].prompt_ids;
  if (prompt_logprobs_) choice.prompt_logprobs = PromptLogprobs(speller_, ids, logprobs);
  if (!echo_ || !n_top_.has_value()) return "";
  Logprobs echoed;
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool known = i > 0 && i <= logprobs.size();
    echoed.AddToCompletion(speller_, ids[i], known ? &logprobs[i - 1] : nullptr, *n_top_,
                           &choice.offset);
  }
  return AddText(index, prompts_[prompt].prompt_text, std::move(echoed));
}

Json CompletionAnswer::Head(bool of_stream) const {
  const char* object = !is_chat_   ? "text_completion"
                       : of_stream ? "chat.completion.chunk"
                                   : "chat.completion";
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
}

Json CompletionAnswer::DeltaOf(const std::string& text) const {
  return is_chat_ ? Json{{"content", text}} : Json(text);
}

Json CompletionAnswer::UsageJson() const {
  Usage sum;
  for (const Usage& usage : usages_) {
    sum.prompt_tokens += usage.prompt_tokens;
    sum.completion_tokens += usage.completion_tokens;
    sum.cached_tokens += usage.cached_tokens;
  }
  return {{"prompt_tokens", sum.prompt_tokens},
          {"completion_tokens", sum.completion_tokens},
          {"total_tokens", sum.prompt_tokens + sum.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", sum.cached_tokens}}}};
}

std::string CompletionAnswer::ChunkOf(size_t index, Json delta, const char* finish_reason,
                                      const Logprobs& logprobs) const {
  Json choice = {{"index", index}};
  choice[is_chat_ ? "delta" : "text"] = std::move(delta);
  choice["logprobs"] = logprobs.json();
  choice["finish_reason"] = finish_reason == nullptr ? Json() : Json(finish_reason);
  Json chunk = Head(/*of_stream=*/true);
  chunk["choices"] = Json::array({std::move(choice)});
  if (include_usage_) chunk["usage"] = nullptr;
  return ServerSentEvent(Dump(chunk));
}

std::string CompletionAnswer::EndOfStream() const {
  std::string out;
  if (include_usage_) {
    Json chunk = Head(/*of_stream=*/true);
    chunk["choices"] = Json::array();
    chunk["usage"] = UsageJson();
    out = ServerSentEvent(Dump(chunk));
  }
  return out + ServerSentEvent("[DONE]");
}

std::string CompletionAnswer::Whole() const {
  Json answer = Head(/*of_stream=*/false);
  answer["choices"] = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    Json choice = {{"index", i}};
    if (is_chat_) {
      choice["message"] = {{"role", "assistant"}, {"content", choices_[i].text}};
    } else {
      choice["text"] = choices_[i].text;
    }
    choice["logprobs"] = choices_[i].logprobs.json();
    if (prompt_logprobs_) choice["prompt_logprobs"] = choices_[i].prompt_logprobs;
    choice["finish_reason"] = choices_[i].finish_reason;
    answer["choices"].push_back(std::move(choice));
  }
  answer["usage"] = UsageJson();
  return Dump(answer);
}

}  // namespace trireme
