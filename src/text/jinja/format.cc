#include "text/jinja/format.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "text/jinja/access.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"

namespace trireme::jinja {
namespace {

constexpr int kMaxPrecision = 200;

struct Spec {
  std::string fill = " ";
  char align = 0;  // < > ^ =, or 0 for the type's own
  char sign = '-';
  bool alternate = false;  // #
  bool comma = false;
  int width = 0;
  int precision = -1;
  char type = 0;
};

// Digits at text[*pos]; -1 if there are too many.
int ReadNumber(std::string_view text, size_t* pos) {
  int n = 0;
  for (; *pos < text.size() && std::isdigit(static_cast<unsigned char>(text[*pos])) != 0; ++*pos) {
    if (n < 10'000'000) n = 10 * n + (text[*pos] - '0');
  }
  return n < 10'000'000 ? n : -1;
}

absl::StatusOr<Value> Padded(Runtime& runtime, const Spec& spec, std::string sign, std::string text,
                             bool number) {
  const int missing = spec.width - static_cast<int>(Length(sign) + Length(text));
  if (missing <= 0) return runtime.MakeText(sign + text);
  RETURN_IF_ERROR(runtime.Charge(static_cast<size_t>(missing) * spec.fill.size()));
  const char align = spec.align != 0 ? spec.align : number ? '>' : '<';
  const int left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string before, after;
  for (int i = 0; i < missing; ++i) (i < left ? before : after) += spec.fill;
  if (align == '=') return runtime.MakeText(sign + before + text);
  return runtime.MakeText(before + sign + text + after);
}

std::string Digits(Int n, char type) {
  if (type == 'd') return IntRepr(n);
  const unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : 16;
  const char* const digits = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out += digits[static_cast<unsigned>(n % base)];
    n /= base;
  } while (n != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string WithCommas(std::string text) {
  size_t end = text.find_first_not_of("0123456789");
  if (end == std::string::npos) end = text.size();
  for (size_t at = end; at > 3;) text.insert(at -= 3, ",");
  return text;
}

absl::StatusOr<Value> FormatNumber(Runtime& runtime, const Spec& spec, const Value& value) {
  std::string text;
  bool negative = false;
  char type = spec.type;
  if (type == 0 && value.AsInt()) type = 'd';
  if (std::string_view("dxXob").find(type) != std::string_view::npos && type != 0) {
    const std::optional<Int> n = value.AsInt();
    if (!n) return InvalidArgument("'", type, "' formats integers, not a ", value.TypeName());
    negative = *n < 0;
    if (negative && !Subtract(0, *n)) return InvalidArgument("an integer has more than 127 bits");
    text = Digits(negative ? -*n : *n, type);
    if (spec.precision > static_cast<int>(text.size())) {
      text.insert(0, std::min(spec.precision, kMaxPrecision) - text.size(), '0');
    }
    if (spec.alternate && type != 'd') text = StrCat("0", type, text);
  } else {
    if (!value.AsFloat()) return InvalidArgument("a ", value.TypeName(), " is no number");
    double d = *value.AsFloat();
    negative = std::signbit(d);
    d = std::fabs(d);
    if (spec.precision > kMaxPrecision) return InvalidArgument("the precision is too large");
    if (type == 0 && spec.precision < 0) {
      text = FloatRepr(d);
    } else if (!std::isfinite(d)) {
      text = std::isnan(d) ? "nan" : "inf";
      negative = negative && !std::isnan(d);
    } else {
      const int precision = spec.precision < 0 ? 6 : spec.precision;
      const bool percent = type == '%';
      const char pattern[] = {'%', '.', '*', percent ? 'f' : type == 0 ? 'g' : type, '\0'};
      if (percent) d *= 100;
      text.resize(static_cast<size_t>(std::snprintf(nullptr, 0, pattern, precision, d)) + 1);
      std::snprintf(text.data(), text.size(), pattern, precision, d);
      text.pop_back();
      if (type == 0 && text.find_first_not_of("0123456789") == std::string::npos) text += ".0";
      if (percent) text += '%';
    }
  }
  if (spec.comma) text = WithCommas(std::move(text));
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  return Padded(runtime, spec, sign, std::move(text), true);
}

std::string Cut(const std::string& text, int precision) {
  if (precision < 0) return text;
  return text.substr(0, ByteOffset(text, static_cast<size_t>(precision)));
}

// --- %

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, std::string_view format, const Value& values)
      : runtime_(runtime), format_(format), values_(values) {
    const auto* tuple = values.As<Sequence>();
    if (tuple != nullptr && tuple->flavor == Sequence::kTuple) {
      positional_ = tuple->items;
      is_tuple_ = true;
    } else {
      positional_ = {values};
    }
  }

  absl::StatusOr<Value> Run() {
    for (size_t pos = 0; pos < format_.size();) {
      if (format_[pos] != '%') {
        out_ += format_[pos++];
        continue;
      }
      RETURN_IF_ERROR(Field(&++pos));
    }
    const bool mapping = values_.As<Dict>() != nullptr;
    const bool list = values_.As<Sequence>() != nullptr && !is_tuple_;
    if (next_ < positional_.size() && !mapping && !list) {
      return InvalidArgument("not all arguments are converted by the format string");
    }
    return runtime_.MakeText(std::move(out_));
  }

 private:
  absl::StatusOr<Value> Next() {
    if (next_ == positional_.size()) return InvalidArgument("too few arguments for the format");
    return positional_[next_++];
  }

  absl::Status Field(size_t* pos) {
    std::optional<Value> value;
    if (format_.substr(*pos).starts_with('(')) {
      const size_t close = format_.find(')', *pos);
      const auto* dict = values_.As<Dict>();
      if (close == std::string_view::npos || dict == nullptr) {
        return InvalidArgument("the format needs a mapping");
      }
      const Value* found = dict->Find(format_.substr(*pos + 1, close - *pos - 1));
      if (found == nullptr) return InvalidArgument("the format names a key that is not there");
      value = *found;
      *pos = close + 1;
    }
    Spec spec;
    bool zero = false;
    for (; *pos < format_.size(); ++*pos) {
      const char c = format_[*pos];
      if (c == '-') {
        spec.align = '<';
      } else if (c == '0') {
        zero = true;
      } else if (c == '#') {
        spec.alternate = true;
      } else if (c == '+' || (c == ' ' && spec.sign != '+')) {
        spec.sign = c;
      } else if (c != ' ') {
        break;
      }
    }
    spec.width = ReadNumber(format_, pos);
    if (format_.substr(*pos).starts_with('.')) spec.precision = ReadNumber(format_, &++*pos);
    if (*pos == format_.size()) return InvalidArgument("the format string ends in a field");
    if (spec.width < 0 || spec.precision < -1) return InvalidArgument("a width is too large");
    char type = format_[(*pos)++];
    if (type == '%') {
      out_ += '%';
      return absl::OkStatus();
    }
    if (!value) {
      ASSIGN_OR_RETURN(value, Next());
    }
    if (type == 's' || type == 'r') {
      if (spec.align == 0) spec.align = '>';
      ASSIGN_OR_RETURN(const std::string text,
                       type == 's' ? Str(runtime_, *value) : Repr(runtime_, *value));
      return Append(Padded(runtime_, spec, "", Cut(text, spec.precision), false));
    }
    RETURN_IF_ERROR(CheckDefined(*value));
    if (zero && spec.align == 0) {
      spec.fill = "0";
      spec.align = '=';
    }
    if (type == 'i' || type == 'u') type = 'd';
    if (std::string_view("dxXofFeEgG").find(type) == std::string_view::npos) {
      return InvalidArgument("the format has an unknown field");
    }
    if (type == 'd' && value->is_float()) {
      const std::optional<Int> n = FromDouble(value->real());
      if (!n) return InvalidArgument("the number is too large for %d");
      value = Value::Number(*n);
    }
    spec.type = type;
    return Append(FormatNumber(runtime_, spec, *value));
  }

  absl::Status Append(const absl::StatusOr<Value>& text) {
    RETURN_IF_ERROR(text.status());
    out_ += text->text();
    return absl::OkStatus();
  }

  Runtime& runtime_;
  std::string_view format_;
  const Value& values_;
  std::vector<Value> positional_;
  bool is_tuple_ = false;
  size_t next_ = 0;
  std::string out_;
};

// --- {}

absl::StatusOr<Spec> ParseSpec(std::string_view text) {
  Spec spec;
  size_t pos = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const size_t first = text.empty() ? 0 : ByteOffset(text, 1);
  if (first < text.size() && is_align(text[first])) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    pos = first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[pos++];
  }
  const auto take = [&](char c) {
    return pos < text.size() && text[pos] == c ? (++pos, true) : false;
  };
  if (pos < text.size() && (text[pos] == '+' || text[pos] == '-' || text[pos] == ' ')) {
    spec.sign = text[pos++];
  }
  spec.alternate = take('#');
  if (take('0') && spec.align == 0) {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = ReadNumber(text, &pos);
  spec.comma = take(',');
  if (take('.')) spec.precision = ReadNumber(text, &pos);
  if (pos < text.size()) spec.type = text[pos++];
  if (pos != text.size() || spec.width < 0 || spec.precision < -1) {
    return InvalidArgument("the format specification is not supported");
  }
  return spec;
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, std::string_view format, const Arguments& arguments)
      : runtime_(runtime), format_(format), arguments_(arguments) {}

  absl::StatusOr<Value> Run() {
    for (size_t pos = 0; pos < format_.size();) {
      const char c = format_[pos++];
      const bool doubled = pos < format_.size() && format_[pos] == c;
      if ((c == '{' || c == '}') && doubled) {
        out_ += c;
        ++pos;
      } else if (c == '}') {
        return InvalidArgument("the format has a single '}'");
      } else if (c == '{') {
        const size_t close = format_.find('}', pos);
        if (close == std::string_view::npos) return InvalidArgument("the format has a single '{'");
        RETURN_IF_ERROR(Field(format_.substr(pos, close - pos)));
        pos = close + 1;
      } else {
        out_ += c;
      }
    }
    return runtime_.MakeText(std::move(out_));
  }

 private:
  // name[!conversion][:specification]
  absl::Status Field(std::string_view field) {
    if (field.find('{') != std::string_view::npos) {
      return InvalidArgument("a field within a field is not supported");
    }
    std::string_view name = field.substr(0, field.find_first_of("!:"));
    std::string_view rest = field.substr(name.size());
    char conversion = 0;
    if (rest.starts_with('!')) {
      if (rest.size() < 2) return InvalidArgument("the format has no conversion behind '!'");
      conversion = rest[1];
      rest.remove_prefix(2);
    }
    if (!rest.empty() && rest[0] != ':')
      return InvalidArgument("the format has a field that cannot be read");
    ASSIGN_OR_RETURN(Value value, Lookup(name));
    if (conversion == 's' || conversion == 'r') {
      ASSIGN_OR_RETURN(std::string text,
                       conversion == 's' ? Str(runtime_, value) : Repr(runtime_, value));
      value = Value::String(std::move(text));
    } else if (conversion != 0) {
      return InvalidArgument("a format takes the conversions !s and !r alone");
    }
    const std::string_view specification = rest.empty() ? rest : rest.substr(1);
    if (specification.empty()) {
      ASSIGN_OR_RETURN(const std::string text, Str(runtime_, value));
      out_ += text;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const Spec spec, ParseSpec(specification));
    absl::StatusOr<Value> text =
        InvalidArgument("a ", value.TypeName(), " takes no format specification");
    if (value.is_string()) {
      if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.sign != '-' ||
          spec.comma) {
        return InvalidArgument("the format specification is not for a string");
      }
      text = Padded(runtime_, spec, "", Cut(value.text(), spec.precision), false);
    } else if (value.AsFloat()) {
      if (spec.type == 's' || (spec.type != 0 && std::string_view("dxXobfFeEgG%").find(spec.type) ==
                                                     std::string_view::npos)) {
        return InvalidArgument("the format specification is not for a number");
      }
      if (value.AsInt() && spec.precision >= 0 && (spec.type == 0 || spec.type == 'd')) {
        return InvalidArgument("an integer has no precision");
      }
      if (value.is_bool() && spec.type == 0) value = Value::Number(*value.AsInt());
      text = FormatNumber(runtime_, spec, value);
    }
    RETURN_IF_ERROR(text.status());
    out_ += text->text();
    return absl::OkStatus();
  }

  // "", "0" or "name", then .attribute and [item] of it.
  absl::StatusOr<Value> Lookup(std::string_view name) {
    const std::string_view first = name.substr(0, name.find_first_of(".["));
    name.remove_prefix(first.size());
    const bool numbered =
        !first.empty() && first.find_first_not_of("0123456789") == std::string_view::npos;
    Value value;
    if (first.empty() || numbered) {
      if (automatic_.value_or(first.empty()) != first.empty()) {
        return InvalidArgument("the format mixes numbered and automatic fields");
      }
      automatic_ = first.empty();
      size_t index = 0;
      if (numbered) {
        size_t pos = 0;
        index = static_cast<size_t>(ReadNumber(first, &pos));
      } else {
        index = next_++;
      }
      if (index >= arguments_.positional.size())
        return InvalidArgument("too few arguments for the format");
      value = arguments_.positional[index];
    } else {
      const auto it = std::find_if(arguments_.named.begin(), arguments_.named.end(),
                                   [&](const auto& named) { return named.first == first; });
      if (it == arguments_.named.end())
        return InvalidArgument("the format names an argument that is not given");
      value = it->second;
    }
    while (!name.empty()) {
      const bool item = name[0] == '[';
      const size_t end = item ? name.find(']') : std::min(name.find_first_of(".[", 1), name.size());
      if (end == std::string_view::npos || end == 1)
        return InvalidArgument("the format has a field that cannot be read");
      const std::string_view key = name.substr(1, end - 1);
      name.remove_prefix(item ? end + 1 : end);
      if (!name.empty() && name[0] != '.' && name[0] != '[')
        return InvalidArgument("the format has a field that cannot be read");
      size_t pos = 0;
      const bool index = item && key.find_first_not_of("0123456789") == std::string_view::npos;
      const Value wanted =
          index ? Value::Number(ReadNumber(key, &pos)) : Value::String(std::string(key));
      ASSIGN_OR_RETURN(
          value, item ? GetItem(runtime_, value, wanted) : GetAttribute(runtime_, value, key));
    }
    return value;
  }

  Runtime& runtime_;
  std::string_view format_;
  const Arguments& arguments_;
  std::optional<bool> automatic_;
  size_t next_ = 0;
  std::string out_;
};

}  // namespace

absl::StatusOr<Value> FormatPercent(Runtime& runtime, const Value& format, const Value& values) {
  RETURN_IF_ERROR(runtime.Charge(format.text().size()));
  return PercentFormatter(runtime, format.text(), values).Run();
}

absl::StatusOr<Value> FormatBraces(Runtime& runtime, const Value& format,
                                   const Arguments& arguments) {
  RETURN_IF_ERROR(runtime.Charge(format.text().size()));
  return BraceFormatter(runtime, format.text(), arguments).Run();
}

}  // namespace trireme::jinja
