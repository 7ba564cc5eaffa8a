// The text of one choice as it grows: ids in, text out, cut before the first stop string.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/detokenizer.h"
#include "text/stop_matcher.h"
#include "text/tokenizer.h"

namespace trireme {

class ChoiceText {
 public:
  struct Piece {
    std::string text;                 // new and final; empty while it is held back
    std::optional<std::string> stop;  // the stop string that ended the text
  };

  // `tokenizer` may be null: no text then, and `stops` is empty. Ids before `min_tokens` are not
  // searched for stop strings.
  ChoiceText(std::shared_ptr<const Tokenizer> tokenizer, const std::vector<int32_t>& prompt_ids,
             const std::vector<std::string>& stops, int32_t min_tokens);

  Piece Push(int32_t id);

  // What was held back, when generation ends without a stop string.
  Piece Flush();

 private:
  Piece Match(std::string text);

  std::optional<Detokenizer> detokenizer_;
  std::optional<StopMatcher> matcher_;
  std::vector<std::string> stop_strings_;
  int32_t min_tokens_;
  int32_t n_ids_ = 0;
};

}  // namespace trireme
