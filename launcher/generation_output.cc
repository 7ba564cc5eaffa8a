#include "launcher/generation_output.h"

#include "nlohmann/json.hpp"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

// One for each id: {"logprob": …, "top": [{"id": …, "logprob": …}, …]}
Json LogprobsJson(const std::vector<TokenLogprobs>& all) {
  Json json = Json::array();
  for (const TokenLogprobs& logprobs : all) {
    Json top = Json::array();
    for (const auto& [id, logprob] : logprobs.top) {
      top.push_back({{"id", id}, {"logprob", logprob}});
    }
    json.push_back({{"logprob", logprobs.logprob}, {"top", std::move(top)}});
  }
  return json;
}

}  // namespace

void GenerationOutput::Add(const Event& event) {
  const bool streams = !json_ && choices_.size() == 1;
  if (const auto* accepted = std::get_if<Accepted>(&event)) {
    seed_ = accepted->seed;
  } else if (const auto* delta = std::get_if<Delta>(&event)) {
    Choice& choice = choices_.at(delta->choice);
    choice.ids.insert(choice.ids.end(), delta->ids.begin(), delta->ids.end());
    choice.text += delta->text;
    const auto append = [](auto& to, const auto& more) {
      to.insert(to.end(), more.begin(), more.end());
    };
    append(choice.logprobs, delta->logprobs);
    if (!delta->prompt_logprobs.empty()) choice.prompt_logprobs = delta->prompt_logprobs;
    if (streams && !delta->text.empty()) {
      std::fwrite(delta->text.data(), 1, delta->text.size(), out_);
      std::fflush(out_);
    }
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    choices_.at(finished->choice).finished = *finished;
  } else if (const auto* status = std::get_if<absl::Status>(&event)) {
    status_ = *status;
    if (streams && !choices_[0].text.empty()) std::fputc('\n', out_);
  }
  ended_ = IsLast(event);
  if (!ended_ || !status_.ok()) return;
  json_ ? PrintJson() : PrintText();
  std::fflush(out_);
}

void GenerationOutput::PrintText() const {
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    if (choices_.size() > 1) std::fprintf(out_, "[%zu] %s", i, choice.text.c_str());
    // A model without a tokenizer has no text to show.
    if (choice.text.empty()) std::fputs(Join(choice.ids, ",").c_str(), out_);
    std::fputc('\n', out_);
  }
}

void GenerationOutput::PrintJson() const {
  std::vector<Json> choices;
  for (const Choice& choice : choices_) {
    const Usage& usage = choice.finished.usage;
    const Timings& timings = choice.finished.timings;
    Json& json = choices.emplace_back();
    json["text"] = choice.text;
    json["token_ids"] = choice.ids;
    if (!choice.logprobs.empty()) json["logprobs"] = LogprobsJson(choice.logprobs);
    if (!choice.prompt_logprobs.empty()) {
      json["prompt_logprobs"] = LogprobsJson(choice.prompt_logprobs);
    }
    json["finish_reason"] = std::string(FinishReasonName(choice.finished.reason));
    json["usage"] = {{"prompt_tokens", usage.prompt_tokens},
                     {"completion_tokens", usage.completion_tokens},
                     {"cached_tokens", usage.cached_tokens}};
    json["timings"] = {{"queue_s", timings.queue_s},
                       {"ttft_s", timings.ttft_s},
                       {"tbt_s_mean", timings.tbt_s_mean},
                       {"total_s", timings.total_s}};
  }
  Json json = choices.size() == 1 ? std::move(choices[0]) : Json{{"choices", std::move(choices)}};
  json["seed"] = seed_;
  std::fprintf(out_, "%s\n", json.dump().c_str());
}

}  // namespace trireme
