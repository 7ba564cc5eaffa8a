#include "text/jinja/numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/strings.h"

namespace trireme::jinja {

std::string IntRepr(Int n) {
  using Unsigned = unsigned __int128;
  Unsigned rest = n < 0 ? -static_cast<Unsigned>(n) : static_cast<Unsigned>(n);
  std::string out;
  do {
    out += static_cast<char>('0' + static_cast<int>(rest % 10));
    rest /= 10;
  } while (rest != 0);
  if (n < 0) out += '-';
  std::reverse(out.begin(), out.end());
  return out;
}

std::string FloatRepr(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), d, std::chars_format::scientific);
  std::string text(buffer, end.ptr);  // -1.2345e+06
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  if (exponent < -4 || exponent >= 16) return text;
  std::string digits;
  for (char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  const std::string sign = text[0] == '-' ? "-" : "";
  if (exponent < 0) return sign + "0." + std::string(-exponent - 1, '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::optional<Int> ParseInt(std::string_view digits, int base) {
  Int value = 0;
  bool any = false;
  for (char c : digits) {
    if (c == '_') continue;
    int digit = 99;
    if (c >= '0' && c <= '9') digit = c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') digit = (c | 0x20) - 'a' + 10;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      return std::nullopt;
    }
    any = true;
  }
  return any ? std::make_optional(value) : std::nullopt;
}

namespace {

// Underscores stand between two digits or letters only.
bool UnderscoresAreFine(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') continue;
    const auto is_alnum = [&](size_t at) {
      return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at])) != 0;
    };
    if (i == 0 || !is_alnum(i - 1) || !is_alnum(i + 1)) return false;
  }
  return true;
}

}  // namespace

std::optional<Int> PythonInt(std::string_view text, int base) {
  text = Strip(text);
  bool negative = false;
  if (text.starts_with('-') || text.starts_with('+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const char kind = text.size() > 1 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : 0;
  const int prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
  if (prefix != 0 && (base == prefix || base == 0)) {
    base = prefix;
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
  } else if (base == 0) {
    base = 10;
    if (text.size() > 1 && text[0] == '0' &&
        text.find_first_not_of("0_") != std::string_view::npos) {
      return std::nullopt;
    }
  }
  if (!UnderscoresAreFine(text)) return std::nullopt;
  const std::optional<Int> value = ParseInt(text, base);
  return value && negative ? std::make_optional(-*value) : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  text = Strip(text);
  if (!UnderscoresAreFine(text)) return std::nullopt;
  std::string digits;
  for (char c : text) {
    if (c != '_') digits += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  std::string_view rest = digits;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  double value = 0;
  if (rest == "inf" || rest == "infinity") {
    value = HUGE_VAL;
  } else if (rest == "nan") {
    value = std::nan("");
  } else {
    if (rest.find_first_not_of("0123456789.e+-") != std::string_view::npos) return std::nullopt;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (rest.starts_with('-') || end != rest.data() + rest.size() ||
        error == std::errc::invalid_argument) {
      return std::nullopt;
    }
    if (error == std::errc::result_out_of_range)
      value = std::strtod(std::string(rest).c_str(), nullptr);
  }
  return negative ? -value : value;
}

std::optional<Int> Add(Int a, Int b) {
  Int c = 0;
  return __builtin_add_overflow(a, b, &c) ? std::nullopt : std::make_optional(c);
}
std::optional<Int> Subtract(Int a, Int b) {
  Int c = 0;
  return __builtin_sub_overflow(a, b, &c) ? std::nullopt : std::make_optional(c);
}
std::optional<Int> Multiply(Int a, Int b) {
  Int c = 0;
  return __builtin_mul_overflow(a, b, &c) ? std::nullopt : std::make_optional(c);
}

std::optional<Int> Power(Int base, Int exponent) {
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  if (exponent > 127) return std::nullopt;
  Int result = 1;
  for (Int i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(result, base, &result)) return std::nullopt;
  }
  return result;
}

std::optional<Int> FromDouble(double d) {
  if (!(std::fabs(d) < 0x1p126)) return std::nullopt;
  return static_cast<Int>(d);
}

Int FloorDivide(Int a, Int b) {
  if (b == -1) return -a;
  const Int quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Int FloorModulo(Int a, Int b) {
  if (b == -1) return 0;
  const Int rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

// As CPython's float_divmod.
double FloorModulo(double a, double b) {
  double mod = std::fmod(a, b);
  if (mod != 0) {
    if ((b < 0) != (mod < 0)) mod += b;
  } else {
    mod = std::copysign(0.0, b);
  }
  return mod;
}

double FloorDivide(double a, double b) {
  double mod = std::fmod(a, b);
  double div = (a - mod) / b;
  if (mod != 0 && (b < 0) != (mod < 0)) div -= 1.0;
  if (div == 0) return std::copysign(0.0, a / b);
  double floor = std::floor(div);
  if (div - floor > 0.5) floor += 1.0;
  return floor;
}

}  // namespace trireme::jinja
