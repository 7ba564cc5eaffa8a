#include "server/openai_logprobs.h"

#include <algorithm>
#include <utility>

#include "base/str.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

// JSON has no infinity: OpenAI's word for "never", and vLLM's.
double Finite(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

Json BytesOf(const std::string& token) {
  Json bytes = Json::array();
  for (const char c : token) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

int64_t Characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace

std::string TokenSpeller::operator()(int32_t id) const {
  return tokenizer_ == nullptr ? StrCat("token_id:", id) : tokenizer_->TokenBytes(id);
}

void Logprobs::AddToCompletion(const TokenSpeller& speller, int32_t id,
                               const TokenLogprobs* logprobs, int32_t n_top, int64_t* offset) {
  const std::string token = speller(id);
  json_["tokens"].push_back(token);
  json_["text_offset"].push_back(*offset);
  *offset += Characters(token);
  if (logprobs == nullptr) {
    json_["token_logprobs"].push_back(nullptr);
    json_["top_logprobs"].push_back(nullptr);
    return;
  }
  json_["token_logprobs"].push_back(Finite(logprobs->logprob));
  Json top = Json::object();
  const auto n = std::min(static_cast<size_t>(n_top), logprobs->top.size());
  for (const auto& [other, logprob] : std::span(logprobs->top).first(n)) {
    top.emplace(speller(other), Finite(logprob));  // of tokens spelled alike the most probable
  }
  top.emplace(token, Finite(logprobs->logprob));
  json_["top_logprobs"].push_back(std::move(top));
}

void Logprobs::AddToChat(const TokenSpeller& speller, int32_t id, const TokenLogprobs& logprobs) {
  const auto entry = [&](int32_t of, float logprob) {
    const std::string token = speller(of);
    return Json{{"token", token}, {"logprob", Finite(logprob)}, {"bytes", BytesOf(token)}};
  };
  Json content = entry(id, logprobs.logprob);
  content["top_logprobs"] = Json::array();
  for (const auto& [other, logprob] : logprobs.top) {
    content["top_logprobs"].push_back(entry(other, logprob));
  }
  json_["content"].push_back(std::move(content));
}

void Logprobs::Append(const Logprobs& more) {
  for (const auto& [key, values] : more.json_.items()) {
    for (const Json& value : values) json_[key].push_back(value);
  }
}

Json PromptLogprobs(const TokenSpeller& speller, std::span<const int32_t> ids,
                    std::span<const TokenLogprobs> logprobs) {
  Json all = Json::array({nullptr});
  for (size_t i = 0; i < logprobs.size() && i + 1 < ids.size(); ++i) {
    Json here = Json::object();
    const auto add = [&](int32_t id, float logprob) {
      here[StrCat(id)] = {{"logprob", Finite(logprob)}, {"decoded_token", speller(id)}};
    };
    add(ids[i + 1], logprobs[i].logprob);
    for (const auto& [id, logprob] : logprobs[i].top) add(id, logprob);
    all.push_back(std::move(here));
  }
  return all;
}

}  // namespace trireme
