#include "text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "text/oniguruma.h"
#include "text/quoted.h"

namespace trireme::text {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr uint32_t kMatchLimit = 50'000'000;  // backtracking steps for one match
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kJitStackBytes = 16 << 20;  // reserved, taken only as it is used

std::string ErrorText(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

// What a thread needs to run any regular expression.
struct MatchScratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);

  MatchScratch() {
    CHECK(data != nullptr && context != nullptr) << "out of memory";
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
};

size_t NextCharacter(std::string_view text, size_t pos) {
  do {
    ++pos;
  } while (pos < text.size() && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

}  // namespace

class Pattern::Compiled {
 public:
  explicit Compiled(pcre2_code* code) : code_(code) {
    jit_ = pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE) == 0;
  }
  ~Compiled() { pcre2_code_free(code_); }
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;

  // 1 and the first match at or behind `from`; 0 if there is none; else PCRE2's error.
  int Find(std::string_view text, size_t from, size_t* begin, size_t* end) const {
    static thread_local MatchScratch scratch;
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const int rc = jit_ ? pcre2_jit_match(code_, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                          scratch.data, scratch.context)
                        : pcre2_match(code_, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                      scratch.data, scratch.context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) return rc;
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(scratch.data);
    *begin = offsets[0];
    *end = offsets[1];
    return 1;
  }

 private:
  pcre2_code* code_;
  bool jit_;
};

Pattern Pattern::Literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

absl::StatusOr<Pattern> Pattern::Regex(std::string_view source) {
  if (source.size() > kMaxPatternBytes) {
    return InvalidArgument("a regular expression is longer than ", kMaxPatternBytes, " bytes");
  }
  ASSIGN_OR_RETURN(const std::string translated, OnigurumaToPcre2(source));
  std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  CHECK(context != nullptr) << "out of memory";
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_bsr(context.get(), PCRE2_BSR_UNICODE);
  int error;
  PCRE2_SIZE offset;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                    &offset, context.get());
  if (code == nullptr) {
    return Unimplemented("regular expression ", Quoted(source), ": PCRE2: ", ErrorText(error));
  }
  Pattern pattern;
  pattern.literal_ = source;
  pattern.regex_ = std::make_shared<const Compiled>(code);
  return pattern;
}

absl::StatusOr<Pattern> Pattern::FromJson(const nlohmann::json& json, std::string_view where) {
  Fields fields(json, StrCat(where, ": \"pattern\""));
  const bool is_literal = fields.Has("String");
  const std::string source = fields.String(is_literal ? "String" : "Regex");
  RETURN_IF_ERROR(fields.Done());
  if (is_literal) return Literal(source);
  absl::StatusOr<Pattern> pattern = Regex(source);
  if (!pattern.ok()) return Annotate(pattern.status(), StrCat("tokenizer.json: ", where));
  return pattern;
}

absl::Status Pattern::Cut(std::string_view text, std::vector<Span>* spans) const {
  spans->clear();
  if (text.empty()) {
    spans->push_back({0, 0, false});
    return absl::OkStatus();
  }
  size_t done = 0;   // up to here `spans` covers the text
  size_t from = 0;   // where the next search starts
  bool any = false;  // a match has been found; the last one ends at `done`
  while (from <= text.size()) {
    size_t begin, end;
    if (is_literal()) {
      begin = text.find(literal_, from);
      if (begin == std::string_view::npos) break;
      end = begin + literal_.size();
    } else {
      const int found = regex_->Find(text, from, &begin, &end);
      if (found == 0) break;
      if (found < 0) {
        return ResourceExhausted("regular expression ", Quoted(literal_), " gave up on ",
                                 text.size(), " bytes of text: PCRE2: ", ErrorText(found));
      }
    }
    if (begin == end && any && end == done) {
      from = NextCharacter(text, from);
      continue;
    }
    if (done != begin) spans->push_back({done, begin, false});
    spans->push_back({begin, end, true});
    done = from = end;
    any = true;
  }
  if (done != text.size()) spans->push_back({done, text.size(), false});
  return absl::OkStatus();
}

absl::StatusOr<SplitBehavior> ParseSplitBehavior(std::string_view name, std::string_view where) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return InvalidArgument("tokenizer.json: ", where, ": unknown \"behavior\" ", Quoted(name),
                         "; known are Removed, Isolated, MergedWithPrevious, MergedWithNext, "
                         "Contiguous");
}

void ApplyBehavior(SplitBehavior behavior, std::vector<Span>* spans) {
  std::vector<Span>& all = *spans;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kRemoved:
      std::erase_if(all, [](const Span& span) { return span.matched; });
      return;
    case SplitBehavior::kMergedWithNext:
      std::reverse(all.begin(), all.end());
      break;
    default:
      break;
  }
  // Runs of like spans merge (contiguous), or a match joins the span before it.
  size_t n = 0;
  bool previous_matched = false;
  for (size_t i = 0; i < all.size(); ++i) {
    const Span span = all[i];
    const bool merge = behavior == SplitBehavior::kContiguous ? span.matched == previous_matched
                                                              : span.matched && !previous_matched;
    if (merge && n > 0) {
      all[n - 1] = {std::min(all[n - 1].begin, span.begin), std::max(all[n - 1].end, span.end),
                    false};
    } else {
      all[n++] = span;
    }
    previous_matched = span.matched;
  }
  all.resize(n);
  if (behavior == SplitBehavior::kMergedWithNext) std::reverse(all.begin(), all.end());
}

}  // namespace trireme::text
