#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "text/case_expansions.h"
#include "text/unicode_additions.h"
#include "text/utf8.h"

namespace trireme::text {
namespace {

// The range that holds c in a table sorted by its ranges, or nullptr.
template <typename Range, size_t n>
const Range* FindRange(const Range (&table)[n], char32_t c) {
  const Range* range =
      std::upper_bound(std::begin(table), std::end(table), c,
                       [](char32_t value, const Range& r) { return value < r.first; });
  return range != std::begin(table) && c <= (range - 1)->last ? range - 1 : nullptr;
}

bool IsNewerThanUnicode9(char32_t c) {
  return c >= kNewerThanUnicode9[0].first && FindRange(kNewerThanUnicode9, c) != nullptr;
}

// The general category as of Unicode 16: "Lu"
std::string_view Category(char32_t c) {
  const std::string_view category = utf8proc_category_string(static_cast<utf8proc_int32_t>(c));
  if (category != "Cn") return category;
  const UnicodeAddition* addition = FindRange(kUnicodeAdditions, c);
  return addition == nullptr ? category : addition->category;
}

}  // namespace

bool IsWhitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsWordCharacter(char32_t c) {
  const std::string_view category = Category(c);
  if (category[0] == 'L' || category[0] == 'M' || category == "Nd" || category == "Nl" ||
      category == "Pc") {
    return true;
  }
  // Other_Alphabetic outside M (circled and squared letters), then Join_Control.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C ||
         c == 0x200D;
}

bool IsCombiningMark(char32_t c) {
  const std::string_view category = utf8proc_category_string(static_cast<utf8proc_int32_t>(c));
  const bool was_mark = c == 0x1CF2 || c == 0x1CF3;  // letters since Unicode 12
  return (category[0] == 'M' && !IsNewerThanUnicode9(c)) || was_mark;
}

void AppendLowercase(char32_t c, std::string* out) {
  if (c == 0x130) {  // the only character whose lower case is two
    out->append("i\xCC\x87");
  } else if (const LowercaseAddition* addition = FindRange(kLowercaseAdditions, c)) {
    AppendUtf8(addition->lower + (c - addition->first), out);
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
  }
}

namespace {

const CaseExpansion* FindExpansion(char32_t c) {
  const CaseExpansion* found =
      std::lower_bound(std::begin(kCaseExpansions), std::end(kCaseExpansions), c,
                       [](const CaseExpansion& e, char32_t value) { return e.first < value; });
  return found != std::end(kCaseExpansions) && found->first == c ? found : nullptr;
}

bool IsIn(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

}  // namespace

void AppendUppercase(char32_t c, std::string* out) {
  if (const CaseExpansion* expansion = FindExpansion(c)) {
    out->append(expansion->upper);
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
  }
}

void AppendTitlecase(char32_t c, std::string* out) {
  if (const CaseExpansion* expansion = FindExpansion(c)) {
    out->append(expansion->title);
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))), out);
  }
}

bool IsUpper(char32_t c) {  // Lu, and Other_Uppercase
  return Category(c) == "Lu" || IsIn(c, 0x2160, 0x216F) || IsIn(c, 0x24B6, 0x24CF) ||
         IsIn(c, 0x1F130, 0x1F149) || IsIn(c, 0x1F150, 0x1F169) || IsIn(c, 0x1F170, 0x1F189);
}

bool IsLower(char32_t c) {  // Ll, and Other_Lowercase
  return Category(c) == "Ll" || c == 0xAA || c == 0xBA || IsIn(c, 0x2B0, 0x2B8) ||
         IsIn(c, 0x2C0, 0x2C1) || IsIn(c, 0x2E0, 0x2E4) || c == 0x345 || c == 0x37A ||
         IsIn(c, 0x1D2C, 0x1D6A) || c == 0x1D78 || IsIn(c, 0x1D9B, 0x1DBF) || c == 0x2071 ||
         c == 0x207F || IsIn(c, 0x2090, 0x209C) || IsIn(c, 0x2170, 0x217F) ||
         IsIn(c, 0x24D0, 0x24E9) || IsIn(c, 0x2C7C, 0x2C7D) || IsIn(c, 0xA69C, 0xA69D) ||
         c == 0xA770 || IsIn(c, 0xA7F8, 0xA7F9) || IsIn(c, 0xAB5C, 0xAB5F) || c == 0x10780 ||
         IsIn(c, 0x10783, 0x107BA);
}

bool IsTitle(char32_t c) { return Category(c) == "Lt"; }
bool IsAlphabetic(char32_t c) { return Category(c)[0] == 'L'; }
bool IsDecimal(char32_t c) { return Category(c) == "Nd"; }
bool IsNumeric(char32_t c) { return Category(c)[0] == 'N'; }

bool IsDigit(char32_t c) {  // Numeric_Type Decimal or Digit
  return IsDecimal(c) || IsIn(c, 0xB2, 0xB3) || c == 0xB9 || IsIn(c, 0x1369, 0x1371) ||
         c == 0x19DA || c == 0x2070 || IsIn(c, 0x2074, 0x2079) || IsIn(c, 0x2080, 0x2089) ||
         IsIn(c, 0x2460, 0x2468) || IsIn(c, 0x2474, 0x247C) || IsIn(c, 0x2488, 0x2490) ||
         c == 0x24EA || IsIn(c, 0x24F5, 0x24FD) || c == 0x24FF || IsIn(c, 0x2776, 0x277E) ||
         IsIn(c, 0x2780, 0x2788) || IsIn(c, 0x278A, 0x2792) || IsIn(c, 0x10A40, 0x10A43) ||
         IsIn(c, 0x10E60, 0x10E68) || IsIn(c, 0x11052, 0x1105A) || IsIn(c, 0x1F100, 0x1F10A);
}

bool IsPrintable(char32_t c) {
  const char major = Category(c)[0];
  return c == ' ' || (major != 'C' && major != 'Z');
}

namespace {

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// utf8proc_decompose would do this too, but orders a run of n marks in O(n^2).
std::vector<utf8proc_int32_t> Decompose(std::string_view text, bool compatibility) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size() + 1);
  for (size_t pos = 0; pos < text.size();) {
    utf8proc_int32_t parts[32];  // no character decomposes into more than 18
    int boundary_class = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(DecodeAt(text, &pos)), parts, 32, options, &boundary_class);
    CHECK(n >= 0 && n <= 32) << utf8proc_errmsg(n);
    chars.insert(chars.end(), parts, parts + n);
  }
  for (auto it = chars.begin(); it != chars.end();) {
    if (CombiningClass(*it) == 0) {
      ++it;
      continue;
    }
    auto end = std::find_if(it, chars.end(), [](auto c) { return CombiningClass(c) == 0; });
    std::stable_sort(it, end, [](auto a, auto b) { return CombiningClass(a) < CombiningClass(b); });
    it = end;
  }
  return chars;
}

void NormalizeKnown(std::string_view text, NormalizationForm form, std::string* out) {
  const bool compatibility = form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd;
  std::vector<utf8proc_int32_t> chars = Decompose(text, compatibility);
  if (form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc) {
    const utf8proc_ssize_t n = utf8proc_normalize_utf32(
        chars.data(), static_cast<utf8proc_ssize_t>(chars.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    CHECK(n >= 0) << utf8proc_errmsg(n);
    chars.resize(static_cast<size_t>(n));
  }
  for (utf8proc_int32_t c : chars) AppendUtf8(static_cast<char32_t>(c), out);
}

}  // namespace

std::string Normalize(std::string_view text, NormalizationForm form) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  if (ascii) return std::string(text);
  std::string out;
  out.reserve(text.size());
  size_t begin =
      0;  // a character that the tables do not know normalizes to itself and parts the text
  for (size_t pos = 0; pos < text.size();) {
    const size_t at = pos;
    if (!IsNewerThanUnicode9(DecodeAt(text, &pos))) continue;
    NormalizeKnown(text.substr(begin, at - begin), form, &out);
    out += text.substr(at, pos - at);
    begin = pos;
  }
  NormalizeKnown(text.substr(begin), form, &out);
  return out;
}

}  // namespace trireme::text
