#include "text/oniguruma.h"

#include <optional>
#include <utility>
#include <vector>

#include "text/char_set.h"
#include "text/quoted.h"
#include "text/utf8.h"

namespace trireme::text {
namespace {

constexpr int kMaxClassNesting = 16;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::optional<char32_t> NamedCharacter(char name) {
  constexpr std::pair<char, char32_t> kNames[] = {
      {'t', '\t'}, {'n', '\n'}, {'r', '\r'}, {'f', '\f'}, {'v', '\v'}, {'a', '\a'}, {'e', 0x1B}};
  for (const auto& [known, character] : kNames) {
    if (name == known) return character;
  }
  return std::nullopt;
}

// \s, \d, \w, \h and in upper case their complements.
std::optional<CharSet> NamedSet(char name, bool in_class) {
  switch (name) {
    case 's':
      return CharSet::Space();
    case 'd':
      return CharSet::Digit();
    case 'w':
      return in_class ? CharSet::Word() : CharSet::LoneWord();
    case 'h':
      return CharSet::HexDigit();
    case 'S':
    case 'D':
    case 'W':
    case 'H':
      return NamedSet(static_cast<char>(name - 'A' + 'a'), in_class)->Negated();
    default:
      return std::nullopt;
  }
}

// \b, or \B if `negated`
std::string WordBoundary(bool negated) {
  const std::string word = CharSet::LoneWord().Pattern();
  const std::string ahead = StrCat("(?=", word, ")"), not_ahead = StrCat("(?!", word, ")");
  return StrCat("(?:(?<=", word, ")", negated ? ahead : not_ahead, "|(?<!", word, ")",
                negated ? not_ahead : ahead, ")");
}

// One pass over the pattern, writing out_ as it goes.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (!AtEnd()) RETURN_IF_ERROR(Next());
    if (groups_.size() > 1) return Malformed("a group is not closed");
    CloseOptions();
    return std::move(out_);
  }

 private:
  struct Group {
    size_t begin;              // where it starts in out_
    int isolated_options = 0;  // each opened one more group, which ends with this one
  };
  struct Escape {  // exactly one of the three
    std::optional<char32_t> character;
    std::optional<CharSet> set;
    std::string assertion;  // or another construct that stands for itself
    bool repeatable = false;
  };

  bool AtEnd() const { return pos_ == in_.size(); }
  char Peek(size_t ahead = 0) const { return pos_ + ahead < in_.size() ? in_[pos_ + ahead] : '\0'; }
  bool Consume(std::string_view text) {
    if (in_.substr(pos_, text.size()) != text) return false;
    pos_ += text.size();
    return true;
  }
  size_t NextCharacter() const {
    size_t pos = pos_;
    DecodeAt(in_, &pos);
    return pos;
  }
  absl::Status Malformed(std::string_view what) const {
    return InvalidArgument("regular expression ", Quoted(in_), ": ", what);
  }
  absl::Status Unsupported(std::string_view what) const {
    return Unimplemented("regular expression ", Quoted(in_), ": ", what, " is not supported");
  }

  void Atom(std::string_view text) {
    atom_ = out_.size();
    repeated_ = false;
    out_ += text;
  }
  void NoAtom(std::string_view text) {
    out_ += text;
    atom_.reset();
  }

  absl::Status Next() {
    switch (Peek()) {
      case '\\':
        return EscapeOutside();
      case '[': {
        ++pos_;
        ASSIGN_OR_RETURN(const CharSet set, Class(0));
        Atom(set.Pattern());
        return absl::OkStatus();
      }
      case '(':
        return OpenGroup();
      case ')':
        return CloseGroup();
      case '.':
        ++pos_;
        Atom(".");
        return absl::OkStatus();
      case '|':
      case '^':
      case '$':
        NoAtom(in_.substr(pos_++, 1));
        return absl::OkStatus();
      case '*':
      case '+':
      case '?':
        return Repeat(in_.substr(pos_++, 1), /*suffixes=*/"?+");
      case '{':
        return Interval();
      default:
        Atom(LiteralPattern(DecodeAt(in_, &pos_)));
        return absl::OkStatus();
    }
  }

  // Writes a quantifier behind the last atom; `suffixes` are those that belong to it. Another
  // quantifier that follows repeats the whole.
  absl::Status Repeat(std::string_view quantifier, std::string_view suffixes) {
    if (!atom_) return Malformed(StrCat("nothing to repeat before \"", quantifier, "\""));
    if (repeated_) {
      out_.insert(*atom_, "(?:");
      out_ += ')';
    }
    out_ += quantifier;
    if (!AtEnd() && suffixes.find(Peek()) != std::string_view::npos) out_ += in_[pos_++];
    repeated_ = true;
    return absl::OkStatus();
  }

  // {n}, {n,}, {,m}, {n,m}; anything else that starts with a brace is literal.
  absl::Status Interval() {
    size_t p = pos_ + 1;
    const auto number = [&] {
      const size_t begin = p;
      while (p < in_.size() && IsDigit(in_[p])) ++p;
      return in_.substr(begin, p - begin);
    };
    const std::string_view low = number();
    const bool comma = p < in_.size() && in_[p] == ',';
    if (comma) ++p;
    const std::string_view high = comma ? number() : low;
    if (p == in_.size() || in_[p] != '}' || (low.empty() && high.empty())) {
      Atom("\\{");
      ++pos_;
      return absl::OkStatus();
    }
    int from = 0, to = 0;
    if ((!low.empty() && !ParseNumber(low, &from)) || (!high.empty() && !ParseNumber(high, &to)) ||
        from > 65535 || to > 65535) {
      return Unsupported("an interval above 65535");
    }
    if (!high.empty() && from > to) return Unsupported("an interval {n,m} with n > m");
    pos_ = p + 1;
    const std::string quantifier = StrCat("{", from, comma ? "," : "", comma ? high : "", "}");
    // Ruby: {n}? is an optional {n}, and {n,m}+ repeats {n,m}.
    return Repeat(quantifier, comma ? "?" : "");
  }

  absl::Status OpenGroup() {
    ++pos_;
    const size_t begin = out_.size();
    if (Peek() != '?') {
      NoAtom("(?:");
    } else if (Consume("?#")) {
      while (!AtEnd() && Peek() != ')') pos_ += Peek() == '\\' && pos_ + 1 < in_.size() ? 2 : 1;
      if (!Consume(")")) return Malformed("a comment is not closed");
      return absl::OkStatus();
    } else if (Consume("?:")) {
      NoAtom("(?:");
    } else if (Consume("?=")) {
      NoAtom("(?=");
    } else if (Consume("?!")) {
      NoAtom("(?!");
    } else if (Consume("?>")) {
      NoAtom("(?>");
    } else if (Consume("?<=")) {
      NoAtom("(?<=");
    } else if (Consume("?<!")) {
      NoAtom("(?<!");
    } else if (Consume("?<")) {
      const size_t close = in_.find('>', pos_);
      if (close == std::string_view::npos) return Malformed("a group name is not closed");
      pos_ = close + 1;
      NoAtom("(?:");
    } else {
      return Options();
    }
    groups_.push_back({begin});
    return absl::OkStatus();
  }

  // (?im-im) and (?im-im:…). Ruby's m lets the dot match a newline: PCRE2's s.
  absl::Status Options() {
    const size_t begin = pos_ - 1;
    std::string options = "(?";
    for (++pos_; !AtEnd() && Peek() != ')' && Peek() != ':'; ++pos_) {
      const char option = Peek();
      if (option != 'i' && option != 'm' && option != '-') {
        return Unsupported(Quoted(in_.substr(begin, NextCharacter() - begin)));
      }
      options += option == 'm' ? 's' : option;
    }
    if (AtEnd()) return Malformed("a group is not closed");
    const bool isolated = Peek() == ')';
    ++pos_;
    if (isolated) {  // Ruby: holds to the end of the group, alternatives included
      ++groups_.back().isolated_options;
    } else {
      groups_.push_back({out_.size()});
    }
    NoAtom(options + ":");
    return absl::OkStatus();
  }

  void CloseOptions() { out_.append(groups_.back().isolated_options, ')'); }

  absl::Status CloseGroup() {
    ++pos_;
    if (groups_.size() == 1) return Malformed("unmatched \")\"");
    CloseOptions();
    out_ += ')';
    atom_ = groups_.back().begin;
    repeated_ = false;
    groups_.pop_back();
    return absl::OkStatus();
  }

  absl::Status EscapeOutside() {
    ASSIGN_OR_RETURN(const Escape escape, ParseEscape(/*in_class=*/false));
    if (escape.character) {
      Atom(LiteralPattern(*escape.character));
    } else if (escape.set) {
      Atom(escape.set->Pattern());
    } else if (escape.repeatable) {
      Atom(escape.assertion);
    } else {
      NoAtom(escape.assertion);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Escape> ParseEscape(bool in_class) {
    ++pos_;
    if (AtEnd()) return Malformed("it ends in a backslash");
    const char c = in_[pos_];
    if (c == '0' || c == 'x' || c == 'u') return NumericEscape();
    if (c == 'p' || c == 'P') return PropertyEscape();
    Escape escape{.character = NamedCharacter(c), .set = NamedSet(c, in_class)};
    if (in_class) {
      if (c == 'b') escape.character = '\b';
    } else if (c == 'b' || c == 'B') {
      escape.assertion = WordBoundary(c == 'B');
    } else if (c == 'A' || c == 'z' || c == 'Z' || c == 'R') {
      escape.assertion = {'\\', c};
      escape.repeatable = c == 'R';
    }
    if (escape.character || escape.set || !escape.assertion.empty()) {
      ++pos_;
      return escape;
    }
    if (IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      return Unsupported(StrCat("\"\\", c, "\""));
    }
    return Escape{.character = DecodeAt(in_, &pos_)};
  }

  // \0, \012, \x41, \x{41}, \u0041
  absl::StatusOr<Escape> NumericEscape() {
    const char kind = in_[pos_++];
    const bool braces = kind == 'x' && Consume("{");
    const size_t max_digits = braces ? 8 : kind == 'u' ? 4 : 2;
    const int base = kind == '0' ? 8 : 16;
    char32_t value = 0;
    size_t digits = 0;
    for (; digits < max_digits && !AtEnd(); ++digits, ++pos_) {
      uint32_t digit;
      if (std::from_chars(&in_[pos_], &in_[pos_] + 1, digit, base).ec != std::errc()) break;
      value = value * base + digit;
    }
    if (braces && !Consume("}")) return Malformed("\\x{ is not closed");
    if (kind != '0' && (digits == 0 || (kind == 'u' && digits < 4))) {
      return Malformed(StrCat("\\", kind, " without its digits"));
    }
    if (kind == 'x' && !braces && value > 0x7F) return Unsupported("\\x above 7F (a raw byte)");
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      return Malformed("an escape is not a Unicode character");
    }
    return Escape{.character = value};
  }

  // \p{Name}, \P{Name}, \p{^Name}
  absl::StatusOr<Escape> PropertyEscape() {
    bool negated = in_[pos_++] == 'P';
    if (!Consume("{")) return Unsupported("\\p without braces");
    if (Consume("^")) negated = !negated;
    const size_t close = in_.find('}', pos_);
    if (close == std::string_view::npos) return Malformed("\\p{ is not closed");
    const std::string_view name = in_.substr(pos_, close - pos_);
    pos_ = close + 1;
    const std::optional<CharSet> set = CharSet::Property(name);
    if (!set) return Unsupported(StrCat("property ", Quoted(name)));
    return Escape{.set = negated ? set->Negated() : *set};
  }

  // The rest of a class, behind its "[".
  absl::StatusOr<CharSet> Class(int depth) {
    if (depth == kMaxClassNesting) return Unsupported("a class nested this deep");
    const bool negated = Consume("^");
    CharSet set;                       // the union being read
    std::vector<CharSet> intersected;  // what stood before each &&
    for (bool first = true; first || Peek() != ']'; first = false) {
      if (AtEnd()) return Malformed("a character class is not closed");
      if (Consume("&&")) {
        if (set.Empty()) return Unsupported("an empty side of &&");
        intersected.push_back(std::exchange(set, {}));
      } else if (Peek() == '[') {
        if (Peek(1) == ':') return Unsupported("a POSIX bracket");
        ++pos_;
        ASSIGN_OR_RETURN(const CharSet nested, Class(depth + 1));
        set.Add(nested);
      } else {
        RETURN_IF_ERROR(ClassMember(&set));
      }
    }
    ++pos_;
    if (set.Empty()) return Unsupported("an empty side of &&");
    if (!intersected.empty()) {
      intersected.push_back(std::move(set));
      set = CharSet::Intersection(intersected);
    }
    return negated ? set.Negated() : set;
  }

  // A character, a range, or an escape that is a set.
  absl::Status ClassMember(CharSet* set) {
    Escape low;
    if (Peek() == '\\') {
      ASSIGN_OR_RETURN(low, ParseEscape(/*in_class=*/true));
    } else {
      low.character = DecodeAt(in_, &pos_);
    }
    const bool range = Peek() == '-' && pos_ + 1 < in_.size() && Peek(1) != ']';
    if (!range) {
      if (low.set) {
        set->Add(*low.set);
      } else {
        set->AddRange(*low.character, *low.character);
      }
      return absl::OkStatus();
    }
    if (low.set || Peek(1) == '[' || in_.substr(pos_ + 1, 2) == "&&") {
      return Unsupported("this \"-\" in a character class");
    }
    ++pos_;
    Escape high;
    if (Peek() == '\\') {
      ASSIGN_OR_RETURN(high, ParseEscape(/*in_class=*/true));
    } else {
      high.character = DecodeAt(in_, &pos_);
    }
    if (high.set) return Malformed("a range ends in a set");
    if (*low.character > *high.character) return Malformed("a range is empty");
    if (Peek() == '-' && Peek(1) != ']') return Unsupported("\"-\" behind a range");
    set->AddRange(*low.character, *high.character);
    return absl::OkStatus();
  }

  std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
  std::optional<size_t> atom_;  // where in out_ the thing starts that a quantifier would repeat
  bool repeated_ = false;       // it already has a quantifier
  std::vector<Group> groups_ = {{0}};
};

}  // namespace

absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace trireme::text
