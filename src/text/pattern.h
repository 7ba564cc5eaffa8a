// What a Split or a Replace looks for: a literal string or a regular expression.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/json_fields.h"

namespace trireme::text {

struct Span {  // [begin, end) of some text; may be empty
  size_t begin, end;
  bool matched;
};

class Pattern {
 public:
  static Pattern Literal(std::string text);
  // Oniguruma syntax, see oniguruma.h; the same errors.
  static absl::StatusOr<Pattern> Regex(std::string_view pattern);
  // {"String": "…"} or {"Regex": "…"}
  static absl::StatusOr<Pattern> FromJson(const nlohmann::json& json, std::string_view where);

  // Cuts the whole of `text` (valid UTF-8) into what matches and what lies between, in order.
  // A match may be empty, but not right behind the one before it. Empty text is one empty span.
  // RESOURCE_EXHAUSTED where the regular expression needs too much time or memory on this text.
  absl::Status Cut(std::string_view text, std::vector<Span>* spans) const;

  bool is_literal() const { return regex_ == nullptr; }
  const std::string& literal() const { return literal_; }

 private:
  class Compiled;  // a PCRE2 code, JIT-compiled where the machine allows

  std::string literal_;
  std::shared_ptr<const Compiled> regex_;
};

// What becomes of the matches (Hugging Face's SplitDelimiterBehavior).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

absl::StatusOr<SplitBehavior> ParseSplitBehavior(std::string_view name, std::string_view where);

// Merges or drops spans, so that each one left becomes a piece.
void ApplyBehavior(SplitBehavior behavior, std::vector<Span>* spans);

}  // namespace trireme::text
