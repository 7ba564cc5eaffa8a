#include "launcher/generation_output.h"

#include "nlohmann/json.hpp"

namespace trireme {

void GenerationOutput::Add(const Event& event) {
  if (const auto* accepted = std::get_if<Accepted>(&event)) {
    seed_ = accepted->seed;
  } else if (const auto* delta = std::get_if<Delta>(&event)) {
    ids_.insert(ids_.end(), delta->ids.begin(), delta->ids.end());
    text_ += delta->text;
    if (!json_ && !delta->text.empty()) {
      std::fwrite(delta->text.data(), 1, delta->text.size(), out_);
      std::fflush(out_);
    }
  } else if (const auto* finished = std::get_if<Finished>(&event)) {
    finished_ = *finished;
    Print(*finished);
  } else if (const auto* status = std::get_if<absl::Status>(&event)) {
    status_ = *status;
    if (!json_ && !text_.empty()) std::fputc('\n', out_);
  }
  ended_ = IsLast(event);
}

void GenerationOutput::Print(const Finished& finished) {
  if (!json_) {
    // A model without a tokenizer has no text to show.
    if (text_.empty() && !ids_.empty()) std::fputs(Join(ids_, ",").c_str(), out_);
    std::fputc('\n', out_);
  } else {
    nlohmann::ordered_json json;
    json["text"] = text_;
    json["token_ids"] = ids_;
    json["finish_reason"] = std::string(FinishReasonName(finished.reason));
    json["usage"] = {{"prompt_tokens", finished.usage.prompt_tokens},
                     {"completion_tokens", finished.usage.completion_tokens},
                     {"cached_tokens", finished.usage.cached_tokens}};
    json["timings"] = {{"queue_s", finished.timings.queue_s},
                       {"ttft_s", finished.timings.ttft_s},
                       {"tbt_s_mean", finished.timings.tbt_s_mean},
                       {"total_s", finished.timings.total_s}};
    json["seed"] = seed_;
    std::fprintf(out_, "%s\n", json.dump().c_str());
  }
  std::fflush(out_);
}

}  // namespace trireme
