// Unicode properties and normalization forms, on top of utf8proc.
#pragma once

#include <string>
#include <string_view>

namespace trireme::text {

bool IsWhitespace(char32_t c);     // White_Space
bool IsWordCharacter(char32_t c);  // \w of UTS #18: Alphabetic, Mark, Nd, Pc, Join_Control
bool IsCombiningMark(char32_t c);  // general category M, as of Unicode 9

// Full lower-casing of one character, without context (no final sigma).
void AppendLowercase(char32_t c, std::string* out);
// Full upper- and title-casing of one character: U+00DF becomes "SS" and "Ss".
void AppendUppercase(char32_t c, std::string* out);
void AppendTitlecase(char32_t c, std::string* out);

// As Python's str.isupper and the like have it for one character.
bool IsUpper(char32_t c);       // Uppercase
bool IsLower(char32_t c);       // Lowercase
bool IsTitle(char32_t c);       // Lt
bool IsAlphabetic(char32_t c);  // L
bool IsDecimal(char32_t c);     // Nd
bool IsDigit(char32_t c);       // Nd, and digits in circles or raised
bool IsNumeric(char32_t c);     // N
bool IsPrintable(char32_t c);   // neither C nor Z, or a space

enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

// Unicode Annex #15 as of Unicode 9, in O(n log n) whatever the order of the combining marks.
std::string Normalize(std::string_view text, NormalizationForm form);

}  // namespace trireme::text
