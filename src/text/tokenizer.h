// Text <-> token ids, as a model's tokenizer.json says (the format of Hugging Face's `tokenizers`).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace trireme {

// Immutable, thread-safe.
//
// Gives the ids and the text that `tokenizers` 0.23 gives for BPE models, byte-level or
// sentencepiece-style. Known difference: a Replace or Split under (?i) does not match "ss" with
// U+00DF and the like.
class Tokenizer {
 public:
  // The contents of a tokenizer.json. INVALID_ARGUMENT names the key that is malformed;
  // UNIMPLEMENTED names the component or option that is not supported. Nothing is ignored.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromJson(std::string_view tokenizer_json);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Special tokens that stand in the text are recognised; `add_special_tokens` adds those of the
  // template (<s> …). INVALID_ARGUMENT for text that is not UTF-8, or that the vocabulary cannot
  // spell; RESOURCE_EXHAUSTED where a regular expression of the file gives up on this text.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const;

  // Always valid UTF-8: bytes that are not become U+FFFD. Ids without a token are left out.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // 1 + the largest id. (A model may have more rows: some round theirs up.)
  int32_t vocab_size() const;
  std::optional<int32_t> TokenToId(std::string_view token) const;
  // The token as the file writes it (for example "Ġthe"); empty where an id has none.
  std::string IdToToken(int32_t id) const;
  // The bytes that it stands for within a text (for example " the"); perhaps no whole characters.
  std::string TokenBytes(int32_t id) const;
  bool IsSpecial(int32_t id) const;

 private:
  friend class Detokenizer;
  struct Parts;

  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  // What the decoder is given for an id; nullptr if that is nothing.
  const std::string* TokenForDecoding(int32_t id, bool skip_special_tokens) const;

  std::unique_ptr<const Parts> parts_;
};

}  // namespace trireme
