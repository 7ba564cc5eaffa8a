#include "text/decoder.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "text/byte_level.h"
#include "text/quoted.h"

namespace trireme::text {
namespace {

// The byte of "<0x4F>", read as leniently as Hugging Face does: "<0x+F>" counts.
std::optional<char> ByteOf(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  const int high = token[3] == '+' ? 0 : digit(token[3]), low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high << 4 | low);
}

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string replaced;
  size_t done = 0;
  for (size_t at; (at = text.find(from, done)) != std::string_view::npos; done = at + from.size()) {
    replaced += text.substr(done, at - done);
    replaced += to;
  }
  return replaced += text.substr(done);
}

// borders[i]: the length of the longest proper prefix of `word` that ends word[0…i].
std::vector<size_t> Borders(std::string_view word) {
  std::vector<size_t> borders(word.size(), 0);
  for (size_t i = 1, k = 0; i < word.size(); ++i) {
    while (k > 0 && word[i] != word[k]) k = borders[k - 1];
    if (word[i] == word[k]) ++k;
    borders[i] = k;
  }
  return borders;
}

}  // namespace

absl::StatusOr<Decoder> Decoder::FromJson(const nlohmann::json& json) {
  Decoder decoder;
  if (json.is_null()) {
    decoder.steps_.push_back({.kind = Kind::kJoin});
    return decoder;
  }
  bool fused = false;
  RETURN_IF_ERROR(
      FlattenSequence(json, "decoder", "decoders",
                      [&](const nlohmann::json& leaf, const std::string& type) -> absl::Status {
                        ASSIGN_OR_RETURN(Step step, ParseStep(leaf, type, fused));
                        fused = fused || step.kind == Kind::kFuse || step.kind == Kind::kByteLevel;
                        decoder.steps_.push_back(std::move(step));
                        return absl::OkStatus();
                      }));
  return decoder;
}

std::string Decoder::BytesOf(std::string_view token) const {
  std::string bytes(token);
  for (const Step& step : steps_) {
    if (step.kind == Kind::kByteLevel) {
      AppendSpelledBytes(std::exchange(bytes, {}), &bytes);
    } else if (step.kind == Kind::kByteFallback) {
      if (const std::optional<char> byte = ByteOf(bytes)) bytes.assign(1, *byte);
    } else if (step.kind == Kind::kReplace) {
      bytes = Replaced(bytes, step.from, step.to);
    } else if (step.kind == Kind::kMetaspace) {
      bytes = Replaced(bytes, step.from, " ");
    }
  }
  return bytes;
}

absl::StatusOr<Decoder::Step> Decoder::ParseStep(const nlohmann::json& json,
                                                 const std::string& type, bool fused) {
  Fields fields(json, StrCat("decoder ", Quoted(type)));
  fields.String("type");
  Step step{.fused = fused};
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    fields.Bool("add_prefix_space");  // these three matter to encoding only
    fields.Bool("trim_offsets");
    fields.Bool("use_regex", true);
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    Fields pattern(fields.Object("pattern"), fields.where() + ": \"pattern\"");
    if (pattern.Has("Regex")) {
      return Unimplemented("tokenizer.json: decoder \"Replace\" of a Regex is not supported");
    }
    step.from = pattern.String("String");
    step.to = fields.String("content");
    if (step.from.empty()) pattern.Fail("\"String\" is empty");
    RETURN_IF_ERROR(pattern.Done());
    step.borders = Borders(step.from);
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    AppendUtf8(fields.Char("content"), &step.from);
    step.start = static_cast<uint64_t>(fields.Int("start"));
    step.stop = static_cast<uint64_t>(fields.Int("stop"));
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    AppendUtf8(fields.Char("replacement"), &step.from);
    const std::string scheme = fields.String("prepend_scheme", "always");
    const bool add_prefix_space = fields.Bool("add_prefix_space", true);
    fields.Bool("split", true);
    fields.String("str_rep", "");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      fields.Fail(StrCat("unknown \"prepend_scheme\" ", Quoted(scheme),
                         "; known are always, first, never"));
    }
    if (!add_prefix_space && scheme != "never") {
      fields.Fail("\"add_prefix_space\" is false but \"prepend_scheme\" is not \"never\"");
    }
    step.drop_in_first = scheme != "never";
  } else {
    return Unsupported("decoder", type);
  }
  RETURN_IF_ERROR(fields.Done());
  if (fused && (step.kind == Kind::kByteLevel || step.kind == Kind::kByteFallback)) {
    return Unimplemented("tokenizer.json: decoder \"", type,
                         "\" behind a Fuse or a ByteLevel is not supported");
  }
  return step;
}

DecodeStream::DecodeStream(const Decoder* decoder)
    : decoder_(decoder), states_(decoder->steps_.size()) {}

void DecodeStream::Push(std::string_view token, std::string* out) { Run(0, token, out); }

// Whether its steps remember, of what lies behind, only whether the text has begun, the bytes of
// one character, and a run of byte tokens.
bool Decoder::IsLocal() const {
  return std::ranges::all_of(steps_, [](const Step& step) {
    if (step.kind == Kind::kReplace) return !step.fused && step.to.find('<') == std::string::npos;
    return step.kind != Kind::kStrip || !step.fused || step.stop == 0;
  });
}

bool DecodeStream::CanForget() const {
  using Kind = Decoder::Kind;
  for (size_t i = 0; i < states_.size(); ++i) {
    const Decoder::Step& config = decoder_->steps_[i];
    const bool counts =
        config.kind == Kind::kJoin || (config.kind == Kind::kMetaspace && !config.fused);
    if (counts && states_[i].count == 0) return false;
    if (config.kind == Kind::kStrip && config.fused && !states_[i].started) return false;
  }
  return decoder_->IsLocal();
}

// No step makes a byte token of it: a run of those ends before it.
bool DecodeStream::CanResume(std::string_view token) const {
  return token.find('<') == std::string_view::npos;
}

void DecodeStream::Forget() {
  for (State& state : states_) {
    state.withheld.clear();
    state.bytes = {};
  }
}

void DecodeStream::Run(size_t step, std::string_view text, std::string* out) {
  using Kind = Decoder::Kind;
  if (step == decoder_->steps_.size()) {
    out->append(text);
    return;
  }
  const Decoder::Step& config = decoder_->steps_[step];
  State& state = states_[step];
  switch (config.kind) {
    case Kind::kJoin:
      if (state.count++ > 0) Run(step + 1, " ", out);
      return Run(step + 1, text, out);
    case Kind::kByteLevel: {
      std::string bytes, decoded;
      AppendSpelledBytes(text, &bytes);
      state.bytes.Push(bytes, &decoded);
      return Run(step + 1, decoded, out);
    }
    case Kind::kReplace:
      return config.fused ? ReplaceFused(step, text, out) : Replace(step, text, out);
    case Kind::kByteFallback:
      return ByteFallback(step, text, out);
    case Kind::kFuse:
      return Run(step + 1, text, out);
    case Kind::kStrip:
      return config.fused ? StripFused(step, text, out) : Strip(step, text, out);
    case Kind::kMetaspace:
      return Metaspace(step, text, out);
  }
}

void DecodeStream::Finish(std::string* out) {
  using Kind = Decoder::Kind;
  for (size_t i = 0; i < states_.size(); ++i) {
    State& state = states_[i];
    const Decoder::Step& config = decoder_->steps_[i];
    std::string rest;
    switch (config.kind) {
      case Kind::kByteLevel:
        state.bytes.Finish(&rest);
        break;
      case Kind::kByteFallback:
        EndByteRun(i, out);
        break;
      case Kind::kReplace:
        rest = std::exchange(state.withheld, {});
        break;
      default:  // a Strip's tail is what it strips
        break;
    }
    if (!rest.empty()) Run(i + 1, rest, out);
  }
}

void DecodeStream::Replace(size_t step, std::string_view text, std::string* out) {
  const Decoder::Step& config = decoder_->steps_[step];
  Run(step + 1, Replaced(text, config.from, config.to), out);
}

// Withholds the longest tail that a later chunk could complete.
void DecodeStream::ReplaceFused(size_t step, std::string_view text, std::string* out) {
  const Decoder::Step& config = decoder_->steps_[step];
  std::string joined = std::exchange(states_[step].withheld, {});
  size_t matched = joined.size();  // what is withheld is a prefix of `from`
  joined += text;
  std::string replaced;
  size_t done = 0;  // in `joined`
  for (size_t i = matched; i < joined.size(); ++i) {
    while (matched > 0 && joined[i] != config.from[matched]) matched = config.borders[matched - 1];
    if (joined[i] == config.from[matched]) ++matched;
    if (matched < config.from.size()) continue;
    replaced.append(joined, done, i + 1 - matched - done);
    replaced += config.to;
    done = i + 1;
    matched = 0;
  }
  replaced.append(joined, done, joined.size() - matched - done);
  states_[step].withheld = joined.substr(joined.size() - matched);
  Run(step + 1, replaced, out);
}

// A run of byte tokens is text if all of it is UTF-8, else one U+FFFD per byte; so it stays
// withheld until it ends.
void DecodeStream::ByteFallback(size_t step, std::string_view text, std::string* out) {
  if (const std::optional<char> byte = ByteOf(text)) {
    states_[step].withheld += *byte;
    return;
  }
  EndByteRun(step, out);
  Run(step + 1, text, out);
}

void DecodeStream::EndByteRun(size_t step, std::string* out) {
  const std::string run = std::exchange(states_[step].withheld, {});
  if (run.empty()) return;
  if (FindInvalidUtf8(run) == std::string::npos) return Run(step + 1, run, out);
  for (size_t i = 0; i < run.size(); ++i) Run(step + 1, kReplacementCharacter, out);
}

void DecodeStream::Strip(size_t step, std::string_view text, std::string* out) {
  const Decoder::Step& config = decoder_->steps_[step];
  const std::string& c = config.from;
  // Both ends are counted on the whole string: where they meet, nothing is left.
  size_t begin = 0, end = text.size();
  for (uint64_t n = 0; n < config.start && text.substr(begin).starts_with(c); ++n) {
    begin += c.size();
  }
  for (uint64_t n = 0; n < config.stop && text.substr(0, end).ends_with(c); ++n) end -= c.size();
  Run(step + 1, begin < end ? text.substr(begin, end - begin) : std::string_view(), out);
}

void DecodeStream::StripFused(size_t step, std::string_view text, std::string* out) {
  const Decoder::Step& config = decoder_->steps_[step];
  const std::string& c = config.from;
  State& state = states_[step];
  while (!state.started && !text.empty()) {
    if (state.count < config.start && text.starts_with(c)) {
      text.remove_prefix(c.size());
      ++state.count;
    } else {
      state.started = true;
    }
  }
  std::string joined = std::exchange(state.withheld, {});
  joined += text;
  size_t end = joined.size();
  const std::string_view view = joined;
  for (uint64_t n = 0; n < config.stop && view.substr(0, end).ends_with(c); ++n) end -= c.size();
  state.withheld = joined.substr(end);
  if (end > 0) Run(step + 1, view.substr(0, end), out);
}

void DecodeStream::Metaspace(size_t step, std::string_view text, std::string* out) {
  const Decoder::Step& config = decoder_->steps_[step];
  const bool first = config.fused || states_[step].count++ == 0;
  const std::string_view space = first && config.drop_in_first ? "" : " ";
  std::string replaced;
  for (size_t pos = 0; pos < text.size();) {
    if (text.substr(pos).starts_with(config.from)) {
      replaced += space;
      pos += config.from.size();
    } else {
      replaced += text[pos++];
    }
  }
  Run(step + 1, replaced, out);
}

}  // namespace trireme::text
