// What a Tokenizer is made of; for tokenizer.cc and detokenizer.cc.
#pragma once

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace trireme {

struct Tokenizer::Parts {
  struct Added {
    std::string content;
    std::string decoded;  // what the decoder is given
    bool special;         // IsSpecial
    bool skipped;         // left out of a decoded text where special tokens are
  };

  text::Normalizer normalizer;
  text::AddedTokens added_tokens;
  text::PreTokenizer pre_tokenizer;
  std::unique_ptr<const text::Bpe> model;
  text::PostProcessor post_processor;
  text::Decoder decoder;
  absl::flat_hash_map<int32_t, Added> added;  // by id
  int32_t vocab_size = 0;
};

}  // namespace trireme
