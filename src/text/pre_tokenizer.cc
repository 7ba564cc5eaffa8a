#include "text/pre_tokenizer.h"

#include <utility>

#include "base/check.h"
#include "text/byte_level.h"
#include "text/quoted.h"
#include "text/utf8.h"

namespace trireme::text {
namespace {

// GPT-2's cut (Radford et al. 2019, encoder.py).
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// \w+|[^\w\s]+ with the \w of Rust's regex crate (UTS #18).
#define RUST_WORD                                                                      \
  R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\u24B6-\u24E9\x{1F130}-\x{1F149}\x{1F150}-\x{1F169})" \
  R"(\x{1F170}-\x{1F189}\u200C\u200D)"
constexpr std::string_view kWordOrOther = "[" RUST_WORD "]+|[^" RUST_WORD R"(\s]+)";

// ASCII punctuation and general category P as of Unicode 8, which Hugging Face's table stops at.
constexpr std::string_view kPunctuation =
    R"([!-/:-@\[-`{-~\p{P}\x{166D}\x{111C9}&&[^)"
    R"(\x{61D}\x{9FD}\x{A76}\x{C77}\x{C84}\x{1B4E}-\x{1B4F}\x{1B7D}-\x{1B7F})"
    R"(\x{2E43}-\x{2E4F}\x{2E52}-\x{2E5D}\x{10D6E}\x{10EAD}\x{10F55}-\x{10F59})"
    R"(\x{10F86}-\x{10F89}\x{113D4}-\x{113D5}\x{113D7}-\x{113D8}\x{1144B}-\x{1144F})"
    R"(\x{1145A}-\x{1145B}\x{1145D}\x{11660}-\x{1166C}\x{116B9}\x{1183B}\x{11944}-\x{11946})"
    R"(\x{119E2}\x{11A3F}-\x{11A46}\x{11A9A}-\x{11A9C}\x{11A9E}-\x{11AA2})"
    R"(\x{11B00}-\x{11B09}\x{11BE1}\x{11C41}-\x{11C45}\x{11C70}-\x{11C71})"
    R"(\x{11EF7}-\x{11EF8}\x{11F43}-\x{11F4F}\x{11FFF}\x{12FF1}-\x{12FF2})"
    R"(\x{16D6D}-\x{16D6F}\x{16E97}-\x{16E9A}\x{16FE2}\x{1E5FF}\x{1E95E}-\x{1E95F})"
    R"(]])";

Pattern Compile(std::string_view source) {
  absl::StatusOr<Pattern> pattern = Pattern::Regex(source);
  CHECK(pattern.ok()) << Message(pattern.status());
  return *std::move(pattern);
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// The name that Metaspace gives its prepend_scheme; nullopt if unknown.
template <typename Prepend>
std::optional<Prepend> ParsePrepend(std::string_view name) {
  if (name == "always") return Prepend::kAlways;
  if (name == "first") return Prepend::kFirst;
  if (name == "never") return Prepend::kNever;
  return std::nullopt;
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::FromJson(const nlohmann::json& json) {
  PreTokenizer result;
  bool rewritten = false;  // a step before may have moved the start of the text
  RETURN_IF_ERROR(FlattenSequence(
      json, "pre_tokenizer", "pretokenizers",
      [&](const nlohmann::json& leaf, const std::string& type) -> absl::Status {
        ASSIGN_OR_RETURN(Step step, ParseStep(leaf, type));
        if (const auto* metaspace = std::get_if<Metaspace>(&step);
            metaspace != nullptr && metaspace->prepend == Metaspace::Prepend::kFirst) {
          if (rewritten) {
            return Unimplemented(
                "tokenizer.json: pre_tokenizer \"Metaspace\" with prepend_scheme \"first\" behind "
                "a ByteLevel or another Metaspace is not supported");
          }
          result.asks_for_start_ = true;
        }
        rewritten = rewritten || !std::holds_alternative<Split>(step);
        result.steps_.push_back(std::move(step));
        return absl::OkStatus();
      }));
  return result;
}

absl::StatusOr<PreTokenizer::Step> PreTokenizer::ParseStep(const nlohmann::json& json,
                                                           const std::string& type) {
  Fields fields(json, StrCat("pre_tokenizer ", Quoted(type)));
  fields.String("type");
  Step step;
  if (type == "Split") return ParseSplit(&fields);
  if (type == "Metaspace") return ParseMetaspace(&fields);
  if (type == "ByteLevel") {
    ByteLevel byte_level{.add_prefix_space = fields.Bool("add_prefix_space")};
    fields.Bool("trim_offsets");  // of offsets, which are not computed here
    if (fields.Bool("use_regex", true)) byte_level.pattern = Compile(kGpt2Pattern);
    step = std::move(byte_level);
  } else if (type == "Whitespace") {
    step = Split{Compile(kWordOrOther), SplitBehavior::kRemoved, /*invert=*/true};
  } else if (type == "WhitespaceSplit") {
    step = Split{Compile(R"(\s)"), SplitBehavior::kRemoved, /*invert=*/false};
  } else if (type == "Digits") {
    const bool individual = fields.Bool("individual_digits");
    step = Split{Compile(R"(\p{N})"),
                 individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                 /*invert=*/false};
  } else if (type == "Punctuation") {
    ASSIGN_OR_RETURN(const SplitBehavior behavior,
                     ParseSplitBehavior(fields.String("behavior", "Isolated"), fields.where()));
    step = Split{Compile(kPunctuation), behavior, /*invert=*/false};
  } else {
    return Unsupported("pre_tokenizer", type);
  }
  RETURN_IF_ERROR(fields.Done());
  return step;
}

absl::StatusOr<PreTokenizer::Step> PreTokenizer::ParseSplit(Fields* fields) {
  const nlohmann::json& pattern_json = fields->Object("pattern");
  const std::string behavior_name = fields->String("behavior");
  const bool invert = fields->Bool("invert");
  RETURN_IF_ERROR(fields->Done());
  ASSIGN_OR_RETURN(const SplitBehavior behavior,
                   ParseSplitBehavior(behavior_name, fields->where()));
  ASSIGN_OR_RETURN(Pattern pattern, Pattern::FromJson(pattern_json, fields->where()));
  return Split{std::move(pattern), behavior, invert};
}

absl::StatusOr<PreTokenizer::Step> PreTokenizer::ParseMetaspace(Fields* fields) {
  Metaspace metaspace;
  AppendUtf8(fields->Char("replacement"), &metaspace.replacement);
  const std::string scheme = fields->String("prepend_scheme", "always");
  metaspace.split = fields->Bool("split", true);
  const bool add_prefix_space = fields->Bool("add_prefix_space", true);  // older files
  fields->String("str_rep", "");                                         // older files: a copy
  const auto prepend = ParsePrepend<Metaspace::Prepend>(scheme);
  if (!prepend) {
    fields->Fail(
        StrCat("unknown \"prepend_scheme\" ", Quoted(scheme), "; known are always, first, never"));
  } else {
    metaspace.prepend = *prepend;
    if (!add_prefix_space && *prepend != Metaspace::Prepend::kNever) {
      fields->Fail("\"add_prefix_space\" is false but \"prepend_scheme\" is not \"never\"");
    }
  }
  RETURN_IF_ERROR(fields->Done());
  return metaspace;
}

absl::Status PreTokenizer::Apply(Pieces* pieces) const {
  for (const Step& step : steps_) {
    RETURN_IF_ERROR(std::visit([&](const auto& s) { return Run(s, pieces); }, step));
  }
  return absl::OkStatus();
}

absl::Status PreTokenizer::Run(const Split& step, Pieces* pieces) {
  std::vector<Pieces::Piece> out;
  out.reserve(pieces->pieces.size() + pieces->text.size() / 4);
  std::vector<Span> spans;
  for (const Pieces::Piece& piece : pieces->pieces) {
    if (piece.id != Pieces::kText) {
      out.push_back(piece);
      continue;
    }
    RETURN_IF_ERROR(step.pattern.Cut(pieces->View(piece), &spans));
    if (step.invert) {
      for (Span& span : spans) span.matched = !span.matched;
    }
    ApplyBehavior(step.behavior, &spans);
    for (const Span& span : spans) {
      if (span.begin != span.end) out.push_back({piece.begin + span.begin, piece.begin + span.end});
    }
  }
  pieces->pieces = std::move(out);
  return absl::OkStatus();
}

absl::Status PreTokenizer::Run(const ByteLevel& step, Pieces* pieces) {
  Pieces out;
  out.text.reserve(pieces->text.size() + pieces->text.size() / 4);
  out.pieces.reserve(pieces->pieces.size() + pieces->text.size() / 4);
  std::vector<Span> spans;
  for (const Pieces::Piece& piece : pieces->pieces) {
    if (piece.id != Pieces::kText) {
      out.pieces.push_back({out.text.size(), out.text.size(), piece.id});
      continue;
    }
    std::string_view text = pieces->View(piece);
    std::string prefixed;
    if (step.add_prefix_space && text.front() != ' ') {
      prefixed = ' ';
      prefixed += text;
      text = prefixed;
    }
    if (step.pattern) {
      RETURN_IF_ERROR(step.pattern->Cut(text, &spans));
    } else {
      spans = {{0, text.size(), false}};
    }
    for (const Span& span : spans) {
      if (span.begin == span.end) continue;
      const size_t begin = out.text.size();
      AppendByteCharacters(text.substr(span.begin, span.end - span.begin), &out.text);
      out.pieces.push_back({begin, out.text.size()});
    }
  }
  *pieces = std::move(out);
  return absl::OkStatus();
}

absl::Status PreTokenizer::Run(const Metaspace& step, Pieces* pieces) {
  const Pattern separator = Pattern::Literal(step.replacement);
  Pieces out;
  out.text.reserve(pieces->text.size() + pieces->text.size() / 2);
  std::vector<Span> spans;
  for (const Pieces::Piece& piece : pieces->pieces) {
    if (piece.id != Pieces::kText) {
      out.pieces.push_back({out.text.size(), out.text.size(), piece.id});
      continue;
    }
    const size_t begin = out.text.size();
    const std::string_view text = pieces->View(piece);
    const bool marked = text.front() == ' ' || StartsWith(text, step.replacement);
    const bool prepend = step.prepend == Metaspace::Prepend::kAlways ||
                         (step.prepend == Metaspace::Prepend::kFirst && piece.begin == 0);
    if (prepend && !marked) out.text += step.replacement;
    for (char c : text) {
      if (c == ' ') {
        out.text += step.replacement;
      } else {
        out.text += c;
      }
    }
    if (!step.split) {
      out.pieces.push_back({begin, out.text.size()});
      continue;
    }
    RETURN_IF_ERROR(separator.Cut(std::string_view(out.text).substr(begin), &spans));
    ApplyBehavior(SplitBehavior::kMergedWithNext, &spans);
    for (const Span& span : spans) out.pieces.push_back({begin + span.begin, begin + span.end});
  }
  *pieces = std::move(out);
  return absl::OkStatus();
}

}  // namespace trireme::text
