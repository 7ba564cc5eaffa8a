// Python's str on UTF-8: positions and lengths are in code points. All text is valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::jinja {

bool IsSpace(char32_t c);  // str.isspace

size_t Length(std::string_view text);
// The byte at which code point `index` begins; text.size() where there are not as many.
size_t ByteOffset(std::string_view text, size_t index);
std::vector<std::string> Characters(std::string_view text);

std::string_view StripLeft(std::string_view text);
std::string_view StripRight(std::string_view text);
std::string_view Strip(std::string_view text);
// Characters of `set`, not white space.
std::string_view StripLeft(std::string_view text, std::string_view set);
std::string_view StripRight(std::string_view text, std::string_view set);

// At most `max` cuts (< 0: no bound), counted from the front or from the back.
std::vector<std::string> Split(std::string_view text, std::string_view separator, int64_t max);
std::vector<std::string> SplitBack(std::string_view text, std::string_view separator, int64_t max);
std::vector<std::string> SplitSpaces(std::string_view text, int64_t max);
std::vector<std::string> SplitSpacesBack(std::string_view text, int64_t max);
std::vector<std::string> SplitLines(std::string_view text, bool keep_ends);

// The byte at which `part` begins first or last, or npos; linear in both sizes.
size_t Find(std::string_view text, std::string_view part, size_t from = 0);
size_t FindLast(std::string_view text, std::string_view part);
// How often `part` occurs, without overlap; an empty one between all characters.
size_t Count(std::string_view text, std::string_view part);
std::string Replace(std::string_view text, std::string_view from, std::string_view to, int64_t max);

// Full case mapping, each character by itself (Python writes a capital sigma at the end of a word
// as a final one; this does not).
std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string Title(std::string_view text);       // str.title
std::string TitleWords(std::string_view text);  // jinja2's filter title
std::string SwapCase(std::string_view text);

// repr(): in quotes, with escapes for what cannot be printed.
std::string Repr(std::string_view text);
// &, <, >, ' and " as markupsafe writes them.
std::string EscapeHtml(std::string_view text);

// str.isalpha and the like; false for an empty text. What: 'a'lpha, 'd'igit, 'c' (decimal),
// 'n' (alnum), 's'pace, 'u'pper, 'l'ower.
bool IsAll(char what, std::string_view text);

}  // namespace trireme::jinja
