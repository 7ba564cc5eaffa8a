// Generated ids -> text, while they are generated.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "text/decoder.h"
#include "text/tokenizer.h"

namespace trireme {

// One per generated choice; for one thread.
//
// All Push and Finish together give Decode(prompt + generated) less the longest beginning, in whole
// characters, that it has in common with Decode(prompt). So a generated " world" keeps its space,
// and a character whose first bytes are in the prompt comes out whole.
//
// With byte fallback (<0xE4> …) a run of byte tokens comes out when the run ends, because Hugging
// Face decodes it as a whole; with byte-level BPE at most 3 bytes are ever withheld.
class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, std::span<const int32_t> prompt_ids,
              bool skip_special_tokens = true);

  // The text that is certain with this id; may be empty; whole characters. O(its length) amortised.
  std::string Push(int32_t id);

  // What was withheld; U+FFFD for a character that stayed incomplete. Nothing may be pushed after.
  std::string Finish();

 private:
  std::string WithoutPrompt(std::string text);

  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_tokens_;
  text::DecodeStream stream_;
  std::string prompt_tail_;  // what Decode(prompt) gives beyond what its ids made certain, …
  size_t prompt_seen_ = 0;   // … of which this much has come again
};

}  // namespace trireme
