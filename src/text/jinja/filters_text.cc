// Filters of texts and numbers, and tojson.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "text/jinja/access.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/json.h"
#include "text/jinja/methods.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme::jinja {
namespace {

// The text itself, Markup or not, or str() of another value.
absl::StatusOr<Value> Soft(Runtime& runtime, const Value& value) {
  if (value.is_string()) return value;
  ASSIGN_OR_RETURN(std::string text, Str(runtime, value));
  return Value::String(std::move(text));
}

template <std::string (*convert)(std::string_view)>
absl::StatusOr<Value> Convert(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "the filter", {}).status());
  ASSIGN_OR_RETURN(const Value text, Soft(runtime, value));
  return runtime.MakeText(convert(text.text()), text.is_markup());
}

absl::StatusOr<Value> CallMethod(Runtime& runtime, const Value& value, std::string_view name,
                                 const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value method, GetAttribute(runtime, value, name));
  return CallValue(runtime, method, arguments);
}

absl::StatusOr<Value> Trim(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value text, Soft(runtime, value));
  return CallMethod(runtime, text, "strip", arguments);
}

absl::StatusOr<Value> Center(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "center", {"width"}));
  ASSIGN_OR_RETURN(const Value text, Soft(runtime, value));
  return CallMethod(runtime, text, "center", {{p[0] == nullptr ? Value::Number(80) : *p[0]}, {}});
}

absl::StatusOr<Value> ReplaceIn(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "replace", {"old", "new", "count"}));
  if (p[0] == nullptr || p[1] == nullptr) return InvalidArgument("replace takes two strings");
  Arguments plain;
  for (const Value* part : {p[0], p[1]}) {
    ASSIGN_OR_RETURN(std::string text, Str(runtime, *part));
    plain.positional.push_back(Value::String(std::move(text)));
  }
  if (p[2] != nullptr) plain.positional.push_back(*p[2]);
  ASSIGN_OR_RETURN(std::string text, Str(runtime, value));
  return CallMethod(runtime, Value::String(std::move(text)), "replace", plain);
}

absl::StatusOr<Value> AsText(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "string", {}).status());
  return Soft(runtime, value);
}

absl::StatusOr<Value> Safe(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "safe", {}).status());
  ASSIGN_OR_RETURN(std::string text, Str(runtime, value));
  return Value::String(std::move(text), true);
}

absl::StatusOr<Value> Escape(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "escape", {}).status());
  if (value.is_markup()) return value;
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, value));
  return runtime.MakeText(EscapeHtml(text), true);
}

absl::StatusOr<Value> ForceEscape(Runtime& runtime, const Value& value,
                                  const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "forceescape", {}).status());
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, value));
  return runtime.MakeText(EscapeHtml(text), true);
}

absl::StatusOr<Value> Indent(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "indent", {"width", "first", "blank"}));
  ASSIGN_OR_RETURN(const std::string text, ToText(value, "what indent indents"));
  std::string indentation(4, ' ');
  if (p[0] != nullptr && p[0]->is_string()) {
    indentation = p[0]->text();
  } else if (p[0] != nullptr) {
    ASSIGN_OR_RETURN(const Int width, ToInt(*p[0], "the width of indent"));
    if (width > runtime.limits().bytes)
      return ResourceExhausted("the width of indent is too large");
    RETURN_IF_ERROR(runtime.Charge(static_cast<size_t>(std::max<Int>(width, 0))));
    indentation.assign(static_cast<size_t>(std::max<Int>(width, 0)), ' ');
  }
  const bool first = p[1] != nullptr && Truth(*p[1]);
  const bool blank = p[2] != nullptr && Truth(*p[2]);
  RETURN_IF_ERROR(runtime.Charge(text.size()));
  const std::vector<std::string> lines = SplitLines(text + "\n", false);
  RETURN_IF_ERROR(runtime.Charge(lines.size() * (sizeof(std::string) + indentation.size())));
  std::string out = first ? indentation : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += indentation;
    out += lines[i];
  }
  return runtime.MakeText(std::move(out), value.is_markup());
}

absl::StatusOr<Value> Truncate(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p,
                   Bind(arguments, "truncate", {"length", "killwords", "end", "leeway"}));
  Int length = 255, leeway = 5;
  std::string end = "...";
  if (p[0] != nullptr) {
    ASSIGN_OR_RETURN(length, ToInt(*p[0], "the length of truncate"));
  }
  if (p[2] != nullptr) {
    ASSIGN_OR_RETURN(end, ToText(*p[2], "the end of truncate"));
  }
  if (p[3] != nullptr && !p[3]->is_none()) {
    ASSIGN_OR_RETURN(leeway, ToInt(*p[3], "the leeway of truncate"));
  }
  const Int end_length = static_cast<Int>(Length(end));
  if (length < end_length || leeway < 0) return InvalidArgument("truncate's length is too short");
  ASSIGN_OR_RETURN(const Value size_value, LengthOf(value));
  const Int size = *size_value.AsInt();
  if (size <= length || size - length <= leeway) return value;
  ASSIGN_OR_RETURN(const std::string text, ToText(value, "what truncate cuts"));
  std::string cut = text.substr(0, ByteOffset(text, static_cast<size_t>(length - end_length)));
  if (p[1] == nullptr || !Truth(*p[1])) cut = SplitBack(cut, " ", 1)[0];
  return runtime.MakeText(cut + end);
}

absl::StatusOr<Value> WordCount(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "wordcount", {}).status());
  ASSIGN_OR_RETURN(const Value text, Soft(runtime, value));
  Int n = 0;
  bool in_word = false;
  for (size_t pos = 0; pos < text.text().size();) {
    const char32_t c = text::DecodeAt(text.text(), &pos);
    const bool word = c == '_' || text::IsAlphabetic(c) || text::IsNumeric(c);
    n += word && !in_word;
    in_word = word;
  }
  return Value::Number(n);
}

std::string QuoteUrl(std::string_view text, bool query) {
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x80 && std::isalnum(byte) != 0) || c == '_' || c == '.' || c == '-' || c == '~' ||
        (c == '/' && !query)) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      char code[4];
      std::snprintf(code, sizeof(code), "%%%02X", byte);
      out += code;
    }
  }
  return out;
}

absl::StatusOr<Value> UrlEncode(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "urlencode", {}).status());
  const auto* dict = value.As<Dict>();
  if (dict == nullptr && value.is_object()) {
    return Unimplemented("urlencode of a ", value.TypeName(), " is not supported");
  }
  std::string out;
  if (dict == nullptr) {
    ASSIGN_OR_RETURN(const std::string text, Str(runtime, value));
    return runtime.MakeText(QuoteUrl(text, false));
  }
  for (const auto& [key, item] : dict->entries) {
    ASSIGN_OR_RETURN(const std::string name, Str(runtime, key));
    ASSIGN_OR_RETURN(const std::string text, Str(runtime, item));
    out += StrCat(out.empty() ? "" : "&", QuoteUrl(name, true), "=", QuoteUrl(text, true));
  }
  return runtime.MakeText(std::move(out));
}

absl::StatusOr<Value> Format(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value format, Soft(runtime, value));
  if (arguments.named.empty()) {
    ASSIGN_OR_RETURN(const Value tuple, runtime.MakeTuple(arguments.positional));
    return FormatPercent(runtime, format, tuple);
  }
  if (!arguments.positional.empty()) return InvalidArgument("format takes no mix of arguments");
  std::vector<Dict::Entry> entries;
  for (const auto& [name, item] : arguments.named) entries.emplace_back(Value::String(name), item);
  ASSIGN_OR_RETURN(const Value dict, runtime.MakeDict(std::move(entries)));
  return FormatPercent(runtime, format, dict);
}

absl::StatusOr<Value> ToJsonText(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "tojson",
                                      {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = p[0] != nullptr && Truth(*p[0]);
  style.sort_keys = p[3] != nullptr && Truth(*p[3]);
  if (p[1] != nullptr && !p[1]->is_none()) {
    if (p[1]->is_string()) {
      style.indent = p[1]->text();
    } else {
      ASSIGN_OR_RETURN(const Int width, ToInt(*p[1], "the indent of tojson"));
      if (width > 1000) return InvalidArgument("the indent of tojson is larger than 1000");
      style.indent = std::string(static_cast<size_t>(std::max<Int>(width, 0)), ' ');
    }
    style.item_separator = ",";
  }
  if (p[2] != nullptr && !p[2]->is_none()) {
    ASSIGN_OR_RETURN(const std::vector<Value> separators, Iterate(runtime, *p[2]));
    if (separators.size() != 2) return InvalidArgument("the separators of tojson are two strings");
    ASSIGN_OR_RETURN(style.item_separator, ToText(separators[0], "a separator of tojson"));
    ASSIGN_OR_RETURN(style.key_separator, ToText(separators[1], "a separator of tojson"));
  }
  ASSIGN_OR_RETURN(std::string text, ToJson(runtime, value, style));
  return Value::String(std::move(text));
}

// --- numbers

absl::StatusOr<Value> Abs(Runtime&, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "abs", {}).status());
  const std::optional<Int> n = value.AsInt();
  if (n && *n >= 0) return Value::Number(*n);
  if (value.is_float()) return Value::Float(std::fabs(value.real()));
  return Negate(value);
}

absl::StatusOr<Value> ToInteger(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "int", {"default", "base"}));
  RETURN_IF_ERROR(CheckDefined(value));
  Int base = 10;
  if (p[1] != nullptr) {
    ASSIGN_OR_RETURN(base, ToInt(*p[1], "the base of int"));
  }
  if (const std::optional<Int> n = value.AsInt()) return Value::Number(*n);
  std::optional<double> real = value.AsFloat();
  if (value.is_string()) {
    if (base == 0 || (base >= 2 && base <= 36)) {
      const std::optional<Int> n = PythonInt(value.text(), static_cast<int>(base));
      if (n) return Value::Number(*n);
    }
    real = ParseFloat(value.text());
  } else if (real && std::isinf(*real)) {
    return InvalidArgument("infinity cannot become an integer");
  }
  if (real && std::isfinite(*real)) {
    const std::optional<Int> n = FromDouble(*real);
    if (!n) return InvalidArgument("an integer has more than 127 bits");
    return Value::Number(*n);
  }
  return p[0] == nullptr ? Value::Number(0) : *p[0];
}

absl::StatusOr<Value> ToReal(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "float", {"default"}));
  RETURN_IF_ERROR(CheckDefined(value));
  std::optional<double> real = value.AsFloat();
  if (value.is_string()) real = ParseFloat(value.text());
  if (real) return Value::Float(*real);
  return p[0] == nullptr ? Value::Float(0) : *p[0];
}

absl::StatusOr<Value> Round(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "round", {"precision", "method"}));
  Int precision = 0;
  if (p[0] != nullptr) {
    ASSIGN_OR_RETURN(precision, ToInt(*p[0], "the precision of round"));
  }
  std::string method = "common";
  if (p[1] != nullptr) {
    ASSIGN_OR_RETURN(method, ToText(*p[1], "the method of round"));
  }
  const std::optional<double> real = value.AsFloat();
  RETURN_IF_ERROR(CheckDefined(value));
  if (!real) return InvalidArgument("a ", value.TypeName(), " cannot be rounded");
  if (precision < 0 || precision > 300) {
    return Unimplemented("round to a precision outside of 0..300 is not supported");
  }
  if (method == "common") {
    if (const std::optional<Int> n = value.AsInt()) return Value::Number(*n);
    if (!std::isfinite(*real)) return value;
    char digits[700];  // %f prints the nearest decimal, ties to even, as Python's round does
    std::snprintf(digits, sizeof(digits), "%.*f", static_cast<int>(precision), *real);
    return Value::Float(std::strtod(digits, nullptr));
  }
  if (method != "ceil" && method != "floor") {
    return InvalidArgument("round's method must be common, ceil or floor");
  }
  ASSIGN_OR_RETURN(const Value scale, Arithmetic(runtime, "**", Value::Number(10),
                                                 Value::Number(std::min<Int>(precision, 38))));
  ASSIGN_OR_RETURN(const Value scaled, Arithmetic(runtime, "*", value, scale));
  const double factor = *scale.AsFloat(), product = *scaled.AsFloat();
  if (!std::isfinite(product)) return InvalidArgument("the number is too large to round");
  return Value::Float((method == "ceil" ? std::ceil(product) : std::floor(product)) / factor);
}

constexpr FilterEntry kFilters[] = {
    {"abs", Abs},
    {"capitalize", Convert<Capitalize>},
    {"center", Center},
    {"e", Escape},
    {"escape", Escape},
    {"float", ToReal},
    {"forceescape", ForceEscape},
    {"format", Format},
    {"indent", Indent},
    {"int", ToInteger},
    {"lower", Convert<Lower>},
    {"replace", ReplaceIn},
    {"round", Round},
    {"safe", Safe},
    {"string", AsText},
    {"title", Convert<TitleWords>},
    {"tojson", ToJsonText},
    {"trim", Trim},
    {"truncate", Truncate},
    {"upper", Convert<Upper>},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
};

}  // namespace

std::span<const FilterEntry> TextFilters() { return kFilters; }

Filter FindFilter(std::string_view name) {
  for (const auto& filters : {TextFilters(), SequenceFilters()}) {
    for (const FilterEntry& entry : filters) {
      if (entry.name == name) return entry.filter;
    }
  }
  return nullptr;
}

}  // namespace trireme::jinja
