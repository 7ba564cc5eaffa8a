#include "text/jinja/strings.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme::jinja {
namespace {

using text::AppendUtf8;
using text::DecodeAt;
using text::DecodeBefore;

template <typename Drop>
std::string_view DropLeft(std::string_view text, const Drop& drop) {
  size_t begin = 0;
  for (size_t next = 0; begin < text.size(); begin = next) {
    if (!drop(DecodeAt(text, &next))) break;
  }
  return text.substr(begin);
}

template <typename Drop>
std::string_view DropRight(std::string_view text, const Drop& drop) {
  size_t end = text.size();
  for (size_t next = end; end > 0; end = next) {
    if (!drop(DecodeBefore(text, &next))) break;
  }
  return text.substr(0, end);
}

auto InSet(std::string_view set) {
  std::u32string characters;
  for (size_t pos = 0; pos < set.size();) characters += DecodeAt(set, &pos);
  std::sort(characters.begin(), characters.end());
  return [characters](char32_t c) {
    return std::binary_search(characters.begin(), characters.end(), c);
  };
}

template <typename Each>
void ForEach(std::string_view text, Each each) {
  for (size_t pos = 0; pos < text.size();) each(DecodeAt(text, &pos));
}

bool IsCased(char32_t c) { return text::IsUpper(c) || text::IsLower(c) || text::IsTitle(c); }

}  // namespace

bool IsSpace(char32_t c) { return text::IsWhitespace(c) || (c >= 0x1C && c <= 0x1F); }

size_t Length(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

size_t ByteOffset(std::string_view text, size_t index) {
  for (size_t at = 0; at < text.size(); ++at) {
    if ((text[at] & 0xC0) != 0x80 && index-- == 0) return at;
  }
  return text.size();
}

std::vector<std::string> Characters(std::string_view text) {
  std::vector<std::string> out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    DecodeAt(text, &pos);
    out.emplace_back(text.substr(begin, pos - begin));
  }
  return out;
}

std::string_view StripLeft(std::string_view text) { return DropLeft(text, IsSpace); }
std::string_view StripRight(std::string_view text) { return DropRight(text, IsSpace); }
std::string_view Strip(std::string_view text) { return StripLeft(StripRight(text)); }
std::string_view StripLeft(std::string_view text, std::string_view set) {
  return DropLeft(text, InSet(set));
}
std::string_view StripRight(std::string_view text, std::string_view set) {
  return DropRight(text, InSet(set));
}

std::vector<std::string> Split(std::string_view text, std::string_view separator, int64_t max) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; max != 0 && (end = Find(text, separator, begin)) != std::string_view::npos;
       begin = end + separator.size(), --max) {
    parts.emplace_back(text.substr(begin, end - begin));
  }
  parts.emplace_back(text.substr(begin));
  return parts;
}

std::vector<std::string> SplitBack(std::string_view text, std::string_view separator, int64_t max) {
  std::vector<std::string> parts;
  for (; max != 0; --max) {
    const size_t at = FindLast(text, separator);
    if (at == std::string_view::npos) break;
    parts.emplace_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.emplace_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> SplitSpaces(std::string_view text, int64_t max) {
  std::vector<std::string> parts;
  for (text = StripLeft(text); !text.empty(); text = StripLeft(text)) {
    if (max-- == 0) {
      parts.emplace_back(text);
      break;
    }
    const std::string_view rest = DropLeft(text, [](char32_t c) { return !IsSpace(c); });
    parts.emplace_back(text.substr(0, text.size() - rest.size()));
    text = rest;
  }
  return parts;
}

std::vector<std::string> SplitSpacesBack(std::string_view text, int64_t max) {
  std::vector<std::string> parts;
  for (text = StripRight(text); !text.empty(); text = StripRight(text)) {
    if (max-- == 0) {
      parts.emplace_back(text);
      break;
    }
    const std::string_view rest = DropRight(text, [](char32_t c) { return !IsSpace(c); });
    parts.emplace_back(text.substr(rest.size()));
    text = rest;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t at = pos;
    const char32_t c = DecodeAt(text, &pos);
    const bool ends = (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                      c == 0x2028 || c == 0x2029;
    if (!ends) continue;
    if (c == '\r' && pos < text.size() && text[pos] == '\n') ++pos;
    lines.emplace_back(text.substr(begin, (keep_ends ? pos : at) - begin));
    begin = pos;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

size_t Find(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? std::string_view::npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t FindLast(std::string_view text, std::string_view part) {
  if (part.size() < 32) return text.rfind(part);
  const std::string backwards(text.rbegin(), text.rend());
  const size_t at = Find(backwards, std::string(part.rbegin(), part.rend()));
  return at == std::string::npos ? at : text.size() - at - part.size();
}

size_t Count(std::string_view text, std::string_view part) {
  if (part.empty()) return Length(text) + 1;
  size_t n = 0;
  for (size_t at = 0; (at = Find(text, part, at)) != std::string_view::npos; at += part.size()) ++n;
  return n;
}

std::string Replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t max) {
  std::string out;
  if (from.empty()) {
    for (size_t pos = 0;;) {
      if (max != 0) {
        out += to;
        --max;
      }
      if (pos == text.size()) return out;
      const size_t begin = pos;
      DecodeAt(text, &pos);
      out += text.substr(begin, pos - begin);
    }
  }
  size_t begin = 0;
  for (size_t end; max != 0 && (end = Find(text, from, begin)) != std::string_view::npos;
       begin = end + from.size(), --max) {
    out += text.substr(begin, end - begin);
    out += to;
  }
  out += text.substr(begin);
  return out;
}

std::string Upper(std::string_view text) {
  std::string out;
  ForEach(text, [&](char32_t c) { text::AppendUppercase(c, &out); });
  return out;
}

std::string Lower(std::string_view text) {
  std::string out;
  ForEach(text, [&](char32_t c) { text::AppendLowercase(c, &out); });
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out;
  ForEach(text, [&, first = true](char32_t c) mutable {
    first ? text::AppendTitlecase(c, &out) : text::AppendLowercase(c, &out);
    first = false;
  });
  return out;
}

std::string Title(std::string_view text) {
  std::string out;
  ForEach(text, [&, in_word = false](char32_t c) mutable {
    in_word ? text::AppendLowercase(c, &out) : text::AppendTitlecase(c, &out);
    in_word = IsCased(c);
  });
  return out;
}

std::string TitleWords(std::string_view text) {
  std::string out;
  ForEach(text, [&, in_word = false](char32_t c) mutable {
    const bool splits = IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    in_word ? text::AppendLowercase(c, &out) : text::AppendUppercase(c, &out);
    in_word = !splits;
  });
  return out;
}

std::string SwapCase(std::string_view text) {
  std::string out;
  ForEach(text, [&](char32_t c) {
    if (text::IsUpper(c)) {
      text::AppendLowercase(c, &out);
    } else if (text::IsLower(c)) {
      text::AppendUppercase(c, &out);
    } else {
      AppendUtf8(c, &out);
    }
  });
  return out;
}

std::string Repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  ForEach(text, [&](char32_t c) {
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (text::IsPrintable(c)) {
      AppendUtf8(c, &out);
    } else {
      char code[12];
      std::snprintf(code, sizeof(code),
                    c < 0x100     ? "\\x%02x"
                    : c < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                    static_cast<unsigned>(c));
      out += code;
    }
  });
  return out + quote;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

bool IsAll(char what, std::string_view text) {
  if (what == 'u' || what == 'l') {
    bool any = false, all = true;
    ForEach(text, [&](char32_t c) {
      const bool fits = what == 'u' ? text::IsUpper(c) : text::IsLower(c);
      any |= fits;
      all &= fits || !IsCased(c);
    });
    return any && all;
  }
  bool all = !text.empty();
  ForEach(text, [&](char32_t c) {
    switch (what) {
      case 'a':
        all &= text::IsAlphabetic(c);
        break;
      case 'c':
        all &= text::IsDecimal(c);
        break;
      case 'd':
        all &= text::IsDigit(c);
        break;
      case 'n':
        all &= text::IsAlphabetic(c) || text::IsNumeric(c);
        break;
      default:
        all &= IsSpace(c);
    }
  });
  return all;
}

}  // namespace trireme::jinja
