// What a template computes with: Python's values, as far as templates use them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"

namespace trireme::jinja {

class Runtime;
struct Object;

// Python's integers have any size; ours 128 bits, beyond which an operation is an error.
using Int = __int128;

struct Text {
  std::string bytes;    // UTF-8
  bool markup = false;  // markupsafe.Markup, as the filter `safe` gives it
};

// A value is small and cheap to copy; strings are shared, objects belong to a Runtime.
class Value {
 public:
  Value() : v_(NoneType{}) {}
  static Value None() { return Value(); }
  // `why` completes an error: "'x' is undefined".
  static Value Undefined(std::string why);
  static Value Bool(bool b);
  static Value Number(Int n);
  static Value Float(double d);
  static Value Of(Object* object);
  // Not charged to a budget: for literals and short strings. Runtime::MakeText charges.
  static Value String(std::string bytes, bool markup = false);

  bool is_undefined() const { return std::holds_alternative<UndefinedType>(v_); }
  bool is_none() const { return std::holds_alternative<NoneType>(v_); }
  bool is_bool() const { return std::holds_alternative<bool>(v_); }
  bool is_int() const { return std::holds_alternative<Int>(v_); }  // not a bool
  bool is_float() const { return std::holds_alternative<double>(v_); }
  bool is_string() const { return std::holds_alternative<TextPtr>(v_); }
  bool is_markup() const { return is_string() && std::get<TextPtr>(v_)->markup; }
  bool is_object() const { return std::holds_alternative<Object*>(v_); }

  const std::string& why_undefined() const { return *std::get<UndefinedType>(v_).why; }
  bool boolean() const { return std::get<bool>(v_); }
  double real() const { return std::get<double>(v_); }
  const std::string& text() const { return std::get<TextPtr>(v_)->bytes; }
  Object* object() const { return is_object() ? std::get<Object*>(v_) : nullptr; }

  std::optional<Int> AsInt() const;       // an int or a bool
  std::optional<double> AsFloat() const;  // any number
  template <typename T>
  T* As() const {
    return dynamic_cast<T*>(object());
  }

  // Python's name of the type, for messages: "str", "dict", …
  std::string TypeName() const;
  // Python's `is`.
  bool Is(const Value& other) const;

 private:
  struct NoneType {};
  struct UndefinedType {
    std::shared_ptr<const std::string> why;
  };
  using TextPtr = std::shared_ptr<const Text>;

  std::variant<NoneType, UndefinedType, bool, Int, double, TextPtr, Object*> v_;
};

// What a call is given.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Lives as long as its Runtime, so that values may form cycles (a namespace that holds itself).
struct Object {
  virtual ~Object() = default;
  virtual std::string TypeName() const = 0;
  // The value of an attribute that is no method of the type; nullopt if there is none.
  virtual absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name);

  int depth = 1;  // of containers in containers
};

// Everything that has items in an order.
struct Sequence : Object {
  enum Flavor { kList, kTuple, kRange, kKeys, kValues, kItems, kIterator };

  std::string TypeName() const override;
  bool indexable() const { return flavor <= kRange; }
  bool sized() const { return flavor != kIterator; }

  Flavor flavor = kList;
  std::vector<Value> items;
  size_t next = 0;                    // of an iterator, which gives each item once
  Int start = 0, stop = 0, step = 1;  // of a range
};

// Keeps the order in which keys came.
struct Dict : Object {
  using Entry = std::pair<Value, Value>;

  std::string TypeName() const override { return "dict"; }
  const Value* Find(std::string_view key) const;
  const Value* Find(const Value& key) const;  // nullptr for one that cannot be a key, too
  void Set(const Value& key, Value value);    // `key` is hashable

  std::vector<Entry> entries;

 private:
  std::optional<size_t> IndexOf(const Value& key) const;

  absl::flat_hash_map<std::string_view, size_t> strings_;  // views of the keys' own text
};

// namespace(…): the one thing that a template may change.
struct Namespace : Object {
  std::string TypeName() const override { return "Namespace"; }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override;

  Dict attributes;
};

// A macro, a method bound to its value, or a global function.
struct Function : Object {
  using Body = std::function<absl::StatusOr<Value>(Runtime&, const Arguments&)>;

  explicit Function(Body b) : call(std::move(b)) {}
  std::string TypeName() const override { return "function"; }

  Body call;
};

// Whether a value can be a key of a dict (as Python's hash()).
bool IsHashable(const Value& value);

}  // namespace trireme::jinja
