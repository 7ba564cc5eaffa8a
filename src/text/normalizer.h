// The "normalizer" of tokenizer.json: rewrites a stretch of text before it is cut.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "base/status.h"
#include "text/json_fields.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace trireme::text {

class Normalizer {
 public:
  // Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents; null does
  // nothing. Another type is UNIMPLEMENTED.
  static absl::StatusOr<Normalizer> FromJson(const nlohmann::json& json);

  bool empty() const { return steps_.empty(); }

  // RESOURCE_EXHAUSTED from a regular expression, see Pattern::Cut.
  absl::StatusOr<std::string> Apply(std::string text) const;

 private:
  struct Prepend {
    std::string text;
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Lowercase {};
  struct Strip {
    bool left, right;
  };
  struct StripAccents {};
  using Step = std::variant<Prepend, Replace, NormalizationForm, Lowercase, Strip, StripAccents>;

  static absl::StatusOr<Step> ParseStep(const nlohmann::json& json, const std::string& type);
  static absl::StatusOr<std::string> Run(const Prepend& step, std::string text);
  static absl::StatusOr<std::string> Run(const Replace& step, std::string text);
  static absl::StatusOr<std::string> Run(NormalizationForm form, std::string text);
  static absl::StatusOr<std::string> Run(const Lowercase& step, std::string text);
  static absl::StatusOr<std::string> Run(const Strip& step, std::string text);
  static absl::StatusOr<std::string> Run(const StripAccents& step, std::string text);

  std::vector<Step> steps_;
};

}  // namespace trireme::text
