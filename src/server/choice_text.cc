#include "server/choice_text.h"

namespace trireme {

ChoiceText::ChoiceText(std::shared_ptr<const Tokenizer> tokenizer,
                       const std::vector<int32_t>& prompt_ids,
                       const std::vector<std::string>& stops, int32_t min_tokens)
    : stop_strings_(stops), min_tokens_(min_tokens) {
  if (tokenizer != nullptr) detokenizer_.emplace(std::move(tokenizer), prompt_ids);
  if (!stops.empty()) matcher_.emplace(stops);
}

ChoiceText::Piece ChoiceText::Push(int32_t id) {
  ++n_ids_;
  if (!detokenizer_.has_value()) return {};
  return Match(detokenizer_->Push(id));
}

ChoiceText::Piece ChoiceText::Flush() {
  if (!detokenizer_.has_value()) return {};
  Piece piece = Match(detokenizer_->Finish());
  if (matcher_.has_value() && !piece.stop.has_value()) piece.text += matcher_->Flush();
  return piece;
}

ChoiceText::Piece ChoiceText::Match(std::string text) {
  if (!matcher_.has_value() || n_ids_ < min_tokens_) return {.text = std::move(text)};
  StopMatcher::Result result = matcher_->Push(text);
  Piece piece{.text = std::move(result.emit)};
  if (result.matched.has_value()) piece.stop = stop_strings_[*result.matched];
  return piece;
}

}  // namespace trireme
