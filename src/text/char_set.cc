#include "text/char_set.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/check.h"
#include "base/str.h"
#include "text/unicode_additions.h"
#include "text/utf8.h"

namespace trireme::text {
namespace {

// Short names stand for themselves.
constexpr std::pair<std::string_view, std::string_view> kLongCategories[] = {
    {"letter", "l"},
    {"uppercaseletter", "lu"},
    {"lowercaseletter", "ll"},
    {"titlecaseletter", "lt"},
    {"modifierletter", "lm"},
    {"otherletter", "lo"},
    {"mark", "m"},
    {"nonspacingmark", "mn"},
    {"spacingmark", "mc"},
    {"enclosingmark", "me"},
    {"number", "n"},
    {"decimalnumber", "nd"},
    {"letternumber", "nl"},
    {"othernumber", "no"},
    {"punctuation", "p"},
    {"connectorpunctuation", "pc"},
    {"dashpunctuation", "pd"},
    {"openpunctuation", "ps"},
    {"closepunctuation", "pe"},
    {"initialpunctuation", "pi"},
    {"finalpunctuation", "pf"},
    {"otherpunctuation", "po"},
    {"symbol", "s"},
    {"mathsymbol", "sm"},
    {"currencysymbol", "sc"},
    {"modifiersymbol", "sk"},
    {"othersymbol", "so"},
    {"separator", "z"},
    {"spaceseparator", "zs"},
    {"lineseparator", "zl"},
    {"paragraphseparator", "zp"},
    {"other", "c"},
    {"control", "cc"},
    {"format", "cf"},
    {"privateuse", "co"},
};

constexpr std::string_view kScripts[] = {"arabic",   "cyrillic", "devanagari", "greek",
                                         "han",      "hangul",   "hebrew",     "hiragana",
                                         "katakana", "latin",    "thai"};

std::string CodePoint(char32_t c) {
  char text[16];
  std::snprintf(text, sizeof(text), "\\x{%x}", static_cast<unsigned>(c));
  return text;
}

std::string Range(char32_t first, char32_t last) {
  return first == last ? CodePoint(first) : StrCat(CodePoint(first), "-", CodePoint(last));
}

// What Unicode added to a general category, "Lu" or "L", as class items.
std::string Additions(std::string_view category) {
  std::string items;
  for (const UnicodeAddition& a : kUnicodeAdditions) {
    if (std::string_view(a.category).substr(0, category.size()) == category) {
      items += Range(a.first, a.last);
    }
  }
  return items;
}

std::string CategoryItems(std::string_view category) {
  return StrCat("\\p{", category, "}", Additions(category));
}

// "Uppercase_Letter" -> "uppercaseletter"
std::string Folded(std::string_view name) {
  std::string folded;
  for (char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    folded += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return folded;
}

}  // namespace

std::string LiteralPattern(char32_t c) {
  const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == ' ' || c == '\'' || c == '_';
  return plain ? std::string(1, static_cast<char>(c)) : CodePoint(c);
}

CharSet CharSet::Space() {
  CharSet set;
  set.items_ =
      "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
      "\\x{202f}\\x{205f}\\x{3000}";
  return set;
}

CharSet CharSet::Digit() {
  CharSet set;
  set.items_ = CategoryItems("Nd");
  return set;
}

// Letter, Mark, Nd, Nl, Pc, and the circled and squared letters.
CharSet CharSet::Word() {
  CharSet set;
  for (std::string_view category : {"L", "M", "Nd", "Nl", "Pc"}) {
    set.items_ += CategoryItems(category);
  }
  for (auto [first, last] : {std::pair<char32_t, char32_t>{0x24B6, 0x24E9},
                             {0x1F130, 0x1F149},
                             {0x1F150, 0x1F169},
                             {0x1F170, 0x1F189}}) {
    set.AddRange(first, last);
  }
  return set;
}

// Outside a class Oniguruma looks below U+0100 into its table for Latin-1, where the superscript
// digits and the fractions are word characters.
CharSet CharSet::LoneWord() {
  CharSet set = Word();
  set.AddRange(0xB2, 0xB3);
  set.AddRange(0xB9, 0xB9);
  set.AddRange(0xBC, 0xBE);
  return set;
}

CharSet CharSet::HexDigit() {
  CharSet set;
  set.items_ = "0-9A-Fa-f";
  return set;
}

std::optional<CharSet> CharSet::Property(std::string_view name) {
  std::string folded = Folded(name);
  CharSet set;
  if (std::find(std::begin(kScripts), std::end(kScripts), folded) != std::end(kScripts)) {
    set.items_ = StrCat("\\p{sc:", folded, "}");  // not the script extensions, which \p{Han} means
    for (const ScriptAddition& a : kScriptAdditions) {
      if (folded == a.script) set.AddRange(a.first, a.last);
    }
    return set;
  }
  for (const auto& [long_name, short_name] : kLongCategories) {
    if (folded == long_name) folded = short_name;
  }
  const bool known = std::any_of(std::begin(kLongCategories), std::end(kLongCategories),
                                 [&](const auto& names) { return names.second == folded; });
  if (!known) return std::nullopt;
  folded[0] = static_cast<char>(folded[0] - 'a' + 'A');
  if (folded == "C") {  // holds the unassigned: what has been assigned since must go
    std::string assigned;
    for (std::string_view category : {"L", "M", "N", "P", "S"}) assigned += Additions(category);
    set.alternatives_.push_back(StrCat("(?![", assigned, "])\\p{C}"));
  } else {
    set.items_ = CategoryItems(folded);
  }
  return set;
}

CharSet CharSet::Intersection(const std::vector<CharSet>& sets) {
  std::string pattern;
  for (size_t i = 0; i + 1 < sets.size(); ++i) pattern += StrCat("(?=", sets[i].Pattern(), ")");
  CharSet set;
  set.alternatives_.push_back(pattern + sets.back().Pattern());
  return set;
}

void CharSet::AddRange(char32_t first, char32_t last) { items_ += Range(first, last); }

void CharSet::Add(const CharSet& other) {
  items_ += other.items_;
  alternatives_.insert(alternatives_.end(), other.alternatives_.begin(), other.alternatives_.end());
}

CharSet CharSet::Negated() const {
  CharSet set;
  if (alternatives_.empty()) {
    set.alternatives_.push_back(StrCat("[^", items_, "]"));
  } else {
    set.alternatives_.push_back(StrCat("(?!", Pattern(), ")(?s:.)"));
  }
  return set;
}

std::string CharSet::Pattern() const {
  CHECK(!Empty());
  if (alternatives_.empty()) return StrCat("[", items_, "]");
  if (items_.empty() && alternatives_.size() == 1 && alternatives_[0].front() == '[') {
    return alternatives_[0];  // a negated set
  }
  std::string pattern = "(?:";
  if (!items_.empty()) pattern += StrCat("[", items_, "]|");
  return pattern + Join(alternatives_, "|") + ")";
}

}  // namespace trireme::text
