// A set of characters, written as a PCRE2 pattern that matches exactly one of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::text {

class CharSet {
 public:
  static CharSet Space();     // Unicode White_Space
  static CharSet Digit();     // \p{Nd}
  static CharSet Word();      // Oniguruma's \w in a class …
  static CharSet LoneWord();  // … and outside
  static CharSet HexDigit();  // ASCII
  // A general category by short or long name, or a script; nullopt if it is neither. Case, spaces,
  // '-' and '_' do not matter.
  static std::optional<CharSet> Property(std::string_view name);
  static CharSet Intersection(const std::vector<CharSet>& sets);

  void AddRange(char32_t first, char32_t last);
  void Add(const CharSet& other);
  CharSet Negated() const;

  bool Empty() const { return items_.empty() && alternatives_.empty(); }
  std::string Pattern() const;  // the set is not empty

 private:
  std::string items_;                      // what stands between [ and ]
  std::vector<std::string> alternatives_;  // sets that cannot be written there
};

// A pattern for this one character.
std::string LiteralPattern(char32_t c);

}  // namespace trireme::text
