#include "text/jinja/json.h"

#include <cmath>
#include <cstdio>

#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/utf8.h"

namespace trireme::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  absl::Status Write(const Value& value, int depth) {
    RETURN_IF_ERROR(runtime_.Spend());
    const size_t before = out.size();
    if (value.is_string()) {
      String(value.text());
    } else if (value.is_none()) {
      out += "null";
    } else if (value.AsFloat()) {
      out += Number(value);
    } else if (const auto* dict = value.As<Dict>()) {
      return WriteDict(*dict, depth);
    } else if (const auto* list = value.As<Sequence>();
               list != nullptr && list->flavor <= Sequence::kTuple) {
      return WriteList(*list, depth);
    } else {
      RETURN_IF_ERROR(CheckDefined(value));
      return InvalidArgument("a ", value.TypeName(), " cannot be written as JSON");
    }
    return runtime_.Charge(out.size() - before);
  }

  std::string out;

 private:
  static std::string Number(const Value& value) {
    if (value.is_bool()) return value.boolean() ? "true" : "false";
    if (value.is_int()) return IntRepr(*value.AsInt());
    const double d = value.real();
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(d);
  }

  void String(std::string_view text) {
    out += '"';
    for (size_t pos = 0; pos < text.size();) {
      const char32_t c = text::DecodeAt(text, &pos);
      constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b";
      constexpr std::string_view kEscapes = "\"\\nrtfb";
      const size_t special =
          c < 0x80 ? kSpecial.find(static_cast<char>(c)) : std::string_view::npos;
      if (special != std::string_view::npos) {
        out += '\\';
        out += kEscapes[special];
      } else if (c < 0x20 || (style_.ensure_ascii && c >= 0x7F)) {
        if (c > 0xFFFF) {  // a pair of surrogates
          Hex(0xD800 + ((c - 0x10000) >> 10));
          Hex(0xDC00 + ((c - 0x10000) & 0x3FF));
        } else {
          Hex(c);
        }
      } else {
        text::AppendUtf8(c, &out);
      }
    }
    out += '"';
  }

  void Hex(char32_t c) {
    char code[16];
    std::snprintf(code, sizeof(code), "\\u%04x", static_cast<unsigned>(c));
    out += code;
  }

  // Before an item, or before the closing bracket.
  absl::Status Break(int depth) {
    if (!style_.indent) return absl::OkStatus();
    RETURN_IF_ERROR(runtime_.Charge(1 + static_cast<size_t>(depth) * style_.indent->size()));
    out += '\n';
    for (int i = 0; i < depth; ++i) out += *style_.indent;
    return absl::OkStatus();
  }

  absl::Status WriteList(const Sequence& list, int depth) {
    out += '[';
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out += style_.item_separator;
      RETURN_IF_ERROR(Break(depth + 1));
      RETURN_IF_ERROR(Write(list.items[i], depth + 1));
    }
    if (!list.items.empty()) RETURN_IF_ERROR(Break(depth));
    out += ']';
    return runtime_.Charge(2 + list.items.size() * style_.item_separator.size());
  }

  absl::Status WriteDict(const Dict& dict, int depth) {
    std::vector<Value> keys;
    for (const auto& entry : dict.entries) keys.push_back(entry.first);
    if (style_.sort_keys) {
      ASSIGN_OR_RETURN(keys, SortBy(runtime_, keys, keys, false));
    }
    out += '{';
    for (size_t i = 0; i < keys.size(); ++i) {
      if (i > 0) out += style_.item_separator;
      RETURN_IF_ERROR(Break(depth + 1));
      const Value& key = keys[i];
      if (key.is_string()) {
        String(key.text());
      } else if (key.is_none() || key.AsFloat()) {
        String(key.is_none() ? "null" : Number(key));
      } else {
        return InvalidArgument("a ", key.TypeName(), " cannot be a key in JSON");
      }
      out += style_.key_separator;
      RETURN_IF_ERROR(runtime_.Charge(key.is_string() ? key.text().size() : 0));
      RETURN_IF_ERROR(Write(*dict.Find(key), depth + 1));
    }
    if (!keys.empty()) RETURN_IF_ERROR(Break(depth));
    out += '}';
    return runtime_.Charge(2 + keys.size() *
                                   (style_.item_separator.size() + style_.key_separator.size()));
  }

  Runtime& runtime_;
  const JsonStyle& style_;
};

absl::StatusOr<Value> Convert(Runtime& runtime, const nlohmann::ordered_json& json, int depth) {
  if (depth > kMaxValueDepth) {
    return ResourceExhausted("JSON is nested more than ", kMaxValueDepth, " deep");
  }
  switch (json.type()) {
    case nlohmann::json::value_t::boolean:
      return Value::Bool(json.get<bool>());
    case nlohmann::json::value_t::number_integer:
      return Value::Number(json.get<int64_t>());
    case nlohmann::json::value_t::number_unsigned:
      return Value::Number(static_cast<Int>(json.get<uint64_t>()));
    case nlohmann::json::value_t::number_float:
      return Value::Float(json.get<double>());
    case nlohmann::json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (text::FindInvalidUtf8(text) != std::string::npos) {
        return InvalidArgument("a string is not valid UTF-8");
      }
      return runtime.MakeText(text);
    }
    case nlohmann::json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) {
        ASSIGN_OR_RETURN(Value value, Convert(runtime, item, depth + 1));
        items.push_back(std::move(value));
      }
      return runtime.MakeList(std::move(items));
    }
    case nlohmann::json::value_t::object: {
      std::vector<Dict::Entry> entries;
      for (const auto& [key, item] : json.items()) {
        if (text::FindInvalidUtf8(key) != std::string::npos) {
          return InvalidArgument("a key is not valid UTF-8");
        }
        ASSIGN_OR_RETURN(Value value, Convert(runtime, item, depth + 1));
        entries.emplace_back(Value::String(key), std::move(value));
      }
      return runtime.MakeDict(std::move(entries));
    }
    default:
      return Value();
  }
}

}  // namespace

absl::StatusOr<Value> FromJson(Runtime& runtime, const nlohmann::ordered_json& json) {
  return Convert(runtime, json, 1);
}

absl::StatusOr<std::string> ToJson(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  RETURN_IF_ERROR(writer.Write(value, 0));
  return std::move(writer.out);
}

}  // namespace trireme::jinja
