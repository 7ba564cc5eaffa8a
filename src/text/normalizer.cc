#include "text/normalizer.h"

#include <utility>

#include "text/quoted.h"
#include "text/utf8.h"

namespace trireme::text {

absl::StatusOr<Normalizer> Normalizer::FromJson(const nlohmann::json& json) {
  Normalizer normalizer;
  RETURN_IF_ERROR(FlattenSequence(json, "normalizer", "normalizers",
                                  [&](const nlohmann::json& leaf, const std::string& type) {
                                    absl::StatusOr<Step> step = ParseStep(leaf, type);
                                    if (step.ok()) normalizer.steps_.push_back(*std::move(step));
                                    return step.status();
                                  }));
  return normalizer;
}

absl::StatusOr<Normalizer::Step> Normalizer::ParseStep(const nlohmann::json& json,
                                                       const std::string& type) {
  Fields fields(json, StrCat("normalizer ", Quoted(type)));
  fields.String("type");
  Step step;
  if (type == "Prepend") {
    step = Prepend{fields.String("prepend")};
  } else if (type == "Replace") {
    const nlohmann::json& pattern_json = fields.Object("pattern");
    std::string content = fields.String("content");
    RETURN_IF_ERROR(fields.Done());
    ASSIGN_OR_RETURN(Pattern pattern, Pattern::FromJson(pattern_json, fields.where()));
    step = Replace{std::move(pattern), std::move(content)};
  } else if (type == "NFC") {
    step = NormalizationForm::kNfc;
  } else if (type == "NFD") {
    step = NormalizationForm::kNfd;
  } else if (type == "NFKC") {
    step = NormalizationForm::kNfkc;
  } else if (type == "NFKD") {
    step = NormalizationForm::kNfkd;
  } else if (type == "Lowercase") {
    step = Lowercase{};
  } else if (type == "Strip") {
    step = Strip{.left = fields.Bool("strip_left"), .right = fields.Bool("strip_right")};
  } else if (type == "StripAccents") {
    step = StripAccents{};
  } else {
    return Unsupported("normalizer", type);
  }
  RETURN_IF_ERROR(fields.Done());
  return step;
}

absl::StatusOr<std::string> Normalizer::Apply(std::string text) const {
  for (const Step& step : steps_) {
    ASSIGN_OR_RETURN(text,
                     std::visit([&](const auto& s) { return Run(s, std::move(text)); }, step));
  }
  return text;
}

absl::StatusOr<std::string> Normalizer::Run(const Prepend& step, std::string text) {
  if (!text.empty()) text.insert(0, step.text);
  return text;
}

absl::StatusOr<std::string> Normalizer::Run(const Replace& step, std::string text) {
  std::vector<Span> spans;
  RETURN_IF_ERROR(step.pattern.Cut(text, &spans));
  std::string out;
  out.reserve(text.size());
  for (const Span& span : spans) {
    if (span.matched) {
      out += step.content;
    } else {
      out.append(text, span.begin, span.end - span.begin);
    }
  }
  return out;
}

absl::StatusOr<std::string> Normalizer::Run(NormalizationForm form, std::string text) {
  return Normalize(text, form);
}

absl::StatusOr<std::string> Normalizer::Run(const Lowercase&, std::string text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) AppendLowercase(DecodeAt(text, &pos), &out);
  return out;
}

absl::StatusOr<std::string> Normalizer::Run(const Strip& step, std::string text) {
  size_t begin = 0, end = text.size();
  if (step.left) {
    for (size_t pos = 0; pos < end && IsWhitespace(DecodeAt(text, &pos));) begin = pos;
  }
  if (step.right) {
    for (size_t pos = end; pos > begin && IsWhitespace(DecodeBefore(text, &pos));) end = pos;
  }
  return text.substr(begin, end - begin);
}

absl::StatusOr<std::string> Normalizer::Run(const StripAccents&, std::string text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = DecodeAt(text, &pos);
    if (!IsCombiningMark(c)) AppendUtf8(c, &out);
  }
  return out;
}

}  // namespace trireme::text
