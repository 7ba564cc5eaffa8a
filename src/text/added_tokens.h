// The "added_tokens" of tokenizer.json: strings that are one id wherever they stand in a text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"
#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"

namespace trireme::text {

struct AddedToken {
  int32_t id;
  std::string content;
  std::string pattern;  // what is looked for: the content, normalized if `normalized`
  bool single_word;     // not where a word character touches it
  bool lstrip, rstrip;  // takes the whitespace before, behind it along
  bool normalized;      // looked for in the normalized text, after the others
  bool special;
};

// Finds the longest of some strings at a place.
class Trie {
 public:
  void Add(std::string_view text, int32_t value);
  bool Has(std::string_view text) const;
  bool empty() const { return values_.size() == 1; }
  // The leftmost string in text[from…), the longest that starts there: its value, or -1.
  int32_t Find(std::string_view text, size_t from, size_t* begin, size_t* end) const;

 private:
  bool starts_[256] = {};                         // some string starts with this byte
  std::vector<int32_t> values_ = {-1};            // by node; -1 where no string ends
  absl::flat_hash_map<uint64_t, int32_t> edges_;  // node << 8 | byte -> node
};

class AddedTokens {
 public:
  // A token that the vocabulary has must have its id there; the others count on from the end of
  // the vocabulary.
  static absl::StatusOr<AddedTokens> FromJson(const nlohmann::json& json, const Bpe& bpe,
                                              const Normalizer& normalizer);

  // The input cut into added tokens and normalized text.
  absl::StatusOr<Pieces> Cut(std::string_view text, const Normalizer& normalizer) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  absl::Status Add(AddedToken token);
  // Appends the pieces of text[…], offsets moved by `shift`.
  void CutOne(const Trie& trie, std::string_view text, size_t shift,
              std::vector<Pieces::Piece>* pieces) const;

  std::vector<AddedToken> tokens_;
  Trie raw_, normalized_;  // values index tokens_
};

}  // namespace trireme::text
