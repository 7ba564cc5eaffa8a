#include "server/openai_answer.h"

#include <algorithm>
#include <utility>

#include "server/openai_error.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

// As one line; bytes that are no UTF-8 (a token may end inside a character) become U+FFFD.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace

std::string ServerSentEvent(const std::string& data) { return "data: " + data + "\n\n"; }

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
      include_stop_(call.include_stop),
      tokenizer_(std::move(tokenizer)),
      speller_(tokenizer_),
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
    if (include_stop_) out += AddText(index, StopText(*finished));
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

// What the text was cut before. As in vLLM special tokens have none.
std::string CompletionAnswer::StopText(const Finished& finished) const {
  if (finished.stop_text.has_value()) return *finished.stop_text;
  if (!finished.stop_id.has_value() || tokenizer_ == nullptr) return "";
  return tokenizer_->IsSpecial(*finished.stop_id) ? "" : tokenizer_->TokenBytes(*finished.stop_id);
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
