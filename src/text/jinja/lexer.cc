#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "text/jinja/numbers.h"
#include "text/jinja/strings.h"
#include "text/quoted.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme::jinja {
namespace {

// \r\n and \r become \n; one newline at the end goes.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (pos_ < source_.size()) RETURN_IF_ERROR(Root());
    Add(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::Status Fail(std::string_view what) { return AtLine(line_, InvalidArgument(what)); }
  void Add(Token::Kind kind, std::string text, Value value = {}) {
    tokens_.push_back({kind, line_, std::move(text), std::move(value)});
  }
  bool At(std::string_view text) const {
    return std::string_view(source_).substr(pos_).starts_with(text);
  }
  void Advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(pos_),
                                         source_.begin() + static_cast<ptrdiff_t>(to), '\n'));
    if (to > pos_) line_starting_ = source_[to - 1] == '\n';
    pos_ = to;
  }
  size_t SpacesFrom(size_t at) const {  // the end of the white space at `at`
    while (at < source_.size()) {
      size_t next = at;
      if (!IsSpace(text::DecodeAt(source_, &next))) break;
      at = next;
    }
    return at;
  }

  // Adds the data up to the tag at `end`, stripped as the tag's sign says.
  void Data(size_t end, char sign, bool variable) {
    std::string_view data = std::string_view(source_).substr(pos_, end - pos_);
    if (sign == '-') {
      data = StripRight(data);
    } else if (sign != '+' && !variable) {
      const size_t last_line = data.rfind('\n') + 1;  // 0 if there is none
      if ((last_line > 0 || line_starting_) && StripRight(data.substr(last_line)).empty()) {
        data = data.substr(0, last_line);
      }
    }
    if (!data.empty()) Add(Token::kData, std::string(data));
    Advance(end);
  }

  char SignAt(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : 0;
  }

  // The end of `-%}` with the white space behind it, of `+%}` or of `%}` with a newline; npos if
  // none of them is at `at`.
  size_t BlockEndAt(size_t at) const {
    const std::string_view rest = std::string_view(source_).substr(std::min(at, source_.size()));
    if (rest.starts_with("-%}")) return SpacesFrom(at + 3);
    if (rest.starts_with("+%}")) return at + 3;
    if (rest.starts_with("%}\n")) return at + 3;
    if (rest.starts_with("%}")) return at + 2;
    return std::string::npos;
  }

  absl::Status Root() {
    size_t at = pos_;
    for (;; ++at) {
      at = source_.find('{', at);
      if (at == std::string::npos || at + 1 == source_.size()) {
        Add(Token::kData, source_.substr(pos_));
        Advance(source_.size());
        return absl::OkStatus();
      }
      const char c = source_[at + 1];
      if (c == '%' || c == '{' || c == '#') break;
    }
    const char kind = source_[at + 1];
    const char sign = SignAt(at + 2);
    const size_t inside = at + 2 + (sign != 0);
    if (kind == '%') {
      if (const size_t raw = RawBegin(inside); raw != std::string::npos) {
        Data(at, sign, false);
        Advance(raw);
        return Raw();
      }
    }
    Data(at, sign, kind == '{');
    if (kind == '#') {
      Advance(inside);
      return Comment();
    }
    Add(kind == '{' ? Token::kVariableBegin : Token::kBlockBegin, "");
    Advance(inside);
    return Tag(kind == '{');
  }

  // The end of `raw %}` or `raw -%}`, or npos.
  size_t RawBegin(size_t at) const {
    at = SpacesFrom(at);
    if (!std::string_view(source_).substr(at).starts_with("raw")) return std::string::npos;
    at = SpacesFrom(at + 3);
    const std::string_view rest = std::string_view(source_).substr(at);
    if (rest.starts_with("-%}")) return SpacesFrom(at + 3);
    return rest.starts_with("%}") ? at + 2 : std::string::npos;
  }

  absl::Status Raw() {
    for (size_t at = pos_; (at = source_.find("{%", at)) != std::string::npos; ++at) {
      const char sign = SignAt(at + 2);
      size_t end = SpacesFrom(at + 2 + (sign != 0));
      if (!std::string_view(source_).substr(end).starts_with("endraw")) continue;
      end = BlockEndAt(SpacesFrom(end + 6));
      if (end == std::string::npos) continue;
      Data(at, sign, false);
      Advance(end);
      return absl::OkStatus();
    }
    return Fail("{% raw %} is not closed");
  }

  absl::Status Comment() {
    const size_t close = source_.find("#}", pos_);
    if (close == std::string::npos) return Fail("a comment is not closed");
    const char sign = close > pos_ ? SignAt(close - 1) : 0;
    size_t end = close + 2;
    if (sign == '-') {
      end = SpacesFrom(end);
    } else if (sign == 0 && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    Advance(end);
    return absl::OkStatus();
  }

  absl::Status Tag(bool variable) {
    std::string open;  // brackets that are not closed
    while (pos_ < source_.size()) {
      if (open.empty()) {
        size_t end = std::string::npos;
        if (!variable) {
          end = BlockEndAt(pos_);
        } else if (At("-}}")) {
          end = SpacesFrom(pos_ + 3);
        } else if (At("}}")) {
          end = pos_ + 2;
        }
        if (end != std::string::npos) {
          Add(variable ? Token::kVariableEnd : Token::kBlockEnd, "");
          Advance(end);
          return absl::OkStatus();
        }
      }
      if (const size_t end = SpacesFrom(pos_); end > pos_) {
        Advance(end);
      } else if (IsDigit(source_[pos_])) {
        RETURN_IF_ERROR(Number());
      } else if (source_[pos_] == '\'' || source_[pos_] == '"') {
        RETURN_IF_ERROR(String());
      } else if (!Name()) {
        RETURN_IF_ERROR(Operator(&open));
      }
    }
    return absl::OkStatus();  // the parser finds the end of the template instead of the tag's
  }

  bool Name() {
    size_t end = pos_;
    while (end < source_.size()) {
      size_t next = end;
      const char32_t c = text::DecodeAt(source_, &next);
      if (c != '_' && !text::IsWordCharacter(c)) break;
      end = next;
    }
    if (end == pos_) return false;
    Add(Token::kName, source_.substr(pos_, end - pos_));
    Advance(end);
    return true;
  }

  // Digits with single underscores between them.
  size_t Digits(size_t at, bool (*is_digit)(char)) const {
    while (at < source_.size() &&
           (is_digit(source_[at]) || (source_[at] == '_' && at + 1 < source_.size() &&
                                      is_digit(source_[at + 1]) && is_digit(source_[at - 1])))) {
      ++at;
    }
    return at;
  }

  absl::Status Number() {
    const size_t end = pos_ > 0 && source_[pos_ - 1] == '.' ? pos_ : FloatEnd();
    if (end > pos_) {
      const std::string text = source_.substr(pos_, end - pos_);
      const std::optional<double> value = ParseFloat(text);
      if (!value) return Fail("a number is out of range");
      Add(Token::kFloat, text, Value::Float(*value));
      Advance(end);
      return absl::OkStatus();
    }
    int base = 10;
    size_t digits = pos_;
    size_t stop = pos_;
    if (source_[pos_] == '0') {
      const char kind = pos_ + 1 < source_.size() ? static_cast<char>(source_[pos_ + 1] | 0x20) : 0;
      bool (*is_digit)(char) = nullptr;
      if (kind == 'x')
        base = 16,
        is_digit = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
      if (kind == 'o') base = 8, is_digit = [](char c) { return c >= '0' && c <= '7'; };
      if (kind == 'b') base = 2, is_digit = [](char c) { return c == '0' || c == '1'; };
      if (is_digit != nullptr) {
        digits = pos_ + 2;
        if (digits + 1 < source_.size() && source_[digits] == '_') ++digits;
        stop = Digits(digits, is_digit);
      }
      if (is_digit == nullptr || stop == digits) {
        base = 10;
        digits = pos_;
        stop = Digits(pos_, [](char c) { return c == '0'; });
      }
    } else {
      stop = Digits(pos_, IsDigit);
    }
    const std::string text = source_.substr(digits, stop - digits);
    const std::optional<Int> value = ParseInt(text, base);
    if (!value) return Fail("an integer has more than 127 bits");
    Add(Token::kInteger, text, Value::Number(*value));
    Advance(stop);
    return absl::OkStatus();
  }

  // Behind `1.5`, `1e5` or `1.5e5` at pos_; pos_ if there is none.
  size_t FloatEnd() const {
    const auto at = [&](size_t i) { return i < source_.size() ? source_[i] : '\0'; };
    size_t end = Digits(pos_, IsDigit);
    bool is_float = false;
    if (at(end) == '.' && IsDigit(at(end + 1))) {
      end = Digits(end + 1, IsDigit);
      is_float = true;
    }
    if (at(end) == 'e' || at(end) == 'E') {
      const size_t exponent = end + 1 + (at(end + 1) == '+' || at(end + 1) == '-');
      if (IsDigit(at(exponent))) {
        end = Digits(exponent, IsDigit);
        is_float = true;
      }
    }
    return is_float ? end : pos_;
  }

  absl::Status String() {
    const char quote = source_[pos_];
    size_t end = pos_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return Fail("a string is not closed");
    std::string value;
    if (!Unescape(std::string_view(source_).substr(pos_ + 1, end - pos_ - 1), &value)) {
      return Fail("a string has an escape that cannot be read");
    }
    Add(Token::kString, source_.substr(pos_, end + 1 - pos_), Value::String(std::move(value)));
    Advance(end + 1);
    return absl::OkStatus();
  }

  // As Python's codec unicode-escape; false for \N{…}, bad hexadecimal digits and surrogates.
  static bool Unescape(std::string_view in, std::string* out) {
    for (size_t i = 0; i < in.size(); ++i) {
      if (in[i] != '\\') {
        *out += in[i];
        continue;
      }
      const char c = in[++i];
      constexpr std::string_view kFrom = "\\'\"abfnrtv";
      constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
      if (const size_t simple = kFrom.find(c); simple != std::string_view::npos) {
        *out += kTo[simple];
      } else if (c == '\n') {
        // A line goes on.
      } else if (c >= '0' && c <= '7') {
        char32_t code = 0;
        size_t n = 0;
        for (; n < 3 && i + n < in.size() && in[i + n] >= '0' && in[i + n] <= '7'; ++n) {
          code = code * 8 + static_cast<char32_t>(in[i + n] - '0');
        }
        i += n - 1;
        text::AppendUtf8(code, out);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const std::optional<Int> code = ParseInt(in.substr(i + 1, n), 16);
        if (!code || in.size() < i + 1 + n || *code < 0 || *code > 0x10FFFF ||
            (*code >= 0xD800 && *code < 0xE000) ||
            in.substr(i + 1, n).find_first_not_of("0123456789abcdefABCDEF") !=
                std::string_view::npos) {
          return false;
        }
        text::AppendUtf8(static_cast<char32_t>(*code), out);
        i += n;
      } else if (c == 'N') {
        return false;
      } else if (static_cast<unsigned char>(c) >= 0x80) {
        // jinja2 has written the character as \xe9 by now, so that the backslash meets another.
        const char32_t code = text::DecodeAt(in, &i);
        --i;
        char hex[12];
        std::snprintf(hex, sizeof(hex),
                      code < 0x100     ? "\\x%02x"
                      : code < 0x10000 ? "\\u%04x"
                                       : "\\U%08x",
                      static_cast<unsigned>(code));
        *out += hex;
      } else {
        *out += '\\';
        *out += c;
      }
    }
    return true;
  }

  absl::Status Operator(std::string* open) {
    constexpr std::array<std::string_view, 6> kLong = {"//", "**", "==", "!=", ">=", "<="};
    size_t n = 1;
    for (std::string_view op : kLong) {
      if (At(op)) n = 2;
    }
    const char c = source_[pos_];
    if (n == 1 && std::string_view("+-/*%~[](){}<>=.:|,;").find(c) == std::string_view::npos) {
      size_t end = pos_;
      text::DecodeAt(source_, &end);
      return Fail(StrCat("unexpected character ",
                         text::Quoted(std::string_view(source_).substr(pos_, end - pos_))));
    }
    if (n == 1) {
      if (c == '(') *open += ')';
      if (c == '[') *open += ']';
      if (c == '{') *open += '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open->empty() || open->back() != c) return Fail(StrCat("unexpected '", c, "'"));
        open->pop_back();
      }
    }
    Add(Token::kOperator, source_.substr(pos_, n));
    Advance(pos_ + n);
    return absl::OkStatus();
  }

  const std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last thing read ended a line
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status AtLine(int line, const absl::Status& status) {
  return Annotate(status, StrCat("line ", line));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  if (text::FindInvalidUtf8(source) != std::string_view::npos) {
    return InvalidArgument("the template is not valid UTF-8");
  }
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace trireme::jinja
