#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

namespace trireme::jinja {

Value Value::Undefined(std::string why) {
  Value value;
  value.v_ = UndefinedType{std::make_shared<const std::string>(std::move(why))};
  return value;
}

Value Value::Bool(bool b) {
  Value value;
  value.v_ = b;
  return value;
}

Value Value::Number(Int n) {
  Value value;
  value.v_ = n;
  return value;
}

Value Value::Float(double d) {
  Value value;
  value.v_ = d;
  return value;
}

Value Value::Of(Object* object) {
  Value value;
  value.v_ = object;
  return value;
}

Value Value::String(std::string bytes, bool markup) {
  Value value;
  value.v_ = std::make_shared<const Text>(Text{std::move(bytes), markup});
  return value;
}

std::optional<Int> Value::AsInt() const {
  if (is_int()) return std::get<Int>(v_);
  if (is_bool()) return boolean() ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::AsFloat() const {
  if (is_float()) return real();
  if (const std::optional<Int> n = AsInt()) return static_cast<double>(*n);
  return std::nullopt;
}

std::string Value::TypeName() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return is_markup() ? "Markup" : "str";
  return object()->TypeName();
}

bool Value::Is(const Value& other) const {
  if (v_.index() != other.v_.index()) return false;
  if (is_none() || is_undefined()) return true;
  if (is_bool()) return boolean() == other.boolean();
  // Small integers and interned strings are one object in CPython.
  if (is_int()) return AsInt() == other.AsInt();
  if (is_string()) return text() == other.text();
  return is_object() && object() == other.object();
}

absl::StatusOr<std::optional<Value>> Object::Attribute(Runtime&, std::string_view) {
  return std::optional<Value>();
}

std::string Sequence::TypeName() const {
  constexpr const char* kNames[] = {"list",        "tuple",      "range",    "dict_keys",
                                    "dict_values", "dict_items", "generator"};
  return kNames[flavor];
}

const Value* Dict::Find(std::string_view key) const {
  const auto it = strings_.find(key);
  return it == strings_.end() ? nullptr : &entries[it->second].second;
}

std::optional<size_t> Dict::IndexOf(const Value& key) const {
  if (key.is_string()) {
    const auto it = strings_.find(key.text());
    if (it == strings_.end()) return std::nullopt;
    return it->second;
  }
  const auto same = [&](const Entry& entry) {
    const Value& other = entry.first;
    if (const std::optional<Int> n = key.AsInt()) {
      if (const std::optional<Int> m = other.AsInt()) return *n == *m;
    }
    if (const std::optional<double> d = key.AsFloat()) return d == other.AsFloat();
    const auto* tuple = key.As<Sequence>();
    const auto* other_tuple = other.As<Sequence>();
    if (tuple == nullptr || other_tuple == nullptr) return key.Is(other);
    return std::equal(tuple->items.begin(), tuple->items.end(), other_tuple->items.begin(),
                      other_tuple->items.end(),
                      [](const Value& a, const Value& b) { return a.Is(b); });
  };
  const auto it = std::find_if(entries.begin(), entries.end(), same);
  if (it == entries.end()) return std::nullopt;
  return it - entries.begin();
}

const Value* Dict::Find(const Value& key) const {
  const std::optional<size_t> i = IndexOf(key);
  return i ? &entries[*i].second : nullptr;
}

void Dict::Set(const Value& key, Value value) {
  if (const std::optional<size_t> i = IndexOf(key)) {
    entries[*i].second = std::move(value);
    return;
  }
  entries.emplace_back(key, std::move(value));
  if (key.is_string()) strings_.emplace(entries.back().first.text(), entries.size() - 1);
}

absl::StatusOr<std::optional<Value>> Namespace::Attribute(Runtime&, std::string_view name) {
  const Value* value = attributes.Find(name);
  return value == nullptr ? std::nullopt : std::make_optional(*value);
}

bool IsHashable(const Value& value) {
  if (value.As<Dict>() != nullptr) return false;
  const auto* sequence = value.As<Sequence>();
  if (sequence == nullptr) return true;
  return sequence->flavor != Sequence::kList &&
         (sequence->flavor != Sequence::kTuple ||
          std::all_of(sequence->items.begin(), sequence->items.end(), IsHashable));
}

}  // namespace trireme::jinja
