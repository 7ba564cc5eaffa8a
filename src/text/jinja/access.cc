#include "text/jinja/access.h"

#include <algorithm>

#include "text/jinja/methods.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"
#include "text/quoted.h"

namespace trireme::jinja {
namespace {

// The index of an item, counted from the back if negative; nullopt outside.
std::optional<size_t> IndexIn(Int index, size_t size) {
  if (index < 0) index += static_cast<Int>(size);
  if (index < 0 || index >= static_cast<Int>(size)) return std::nullopt;
  return static_cast<size_t>(index);
}

// value[key] by Python's rules alone; nullopt where Python raises a TypeError or LookupError.
absl::StatusOr<std::optional<Value>> Subscript(Runtime& runtime, const Value& value,
                                               const Value& key) {
  if (const auto* dict = value.As<Dict>()) {
    RETURN_IF_ERROR(SpendOnLookup(runtime, *dict, key));
    const Value* found = dict->Find(key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  const std::optional<Int> index = key.AsInt();
  const auto* sequence = value.As<Sequence>();
  if (index && sequence != nullptr && sequence->indexable()) {
    const std::optional<size_t> i = IndexIn(*index, sequence->items.size());
    return i ? std::optional(sequence->items[*i]) : std::nullopt;
  }
  if (index && value.is_string()) {
    const std::string& text = value.text();
    RETURN_IF_ERROR(runtime.SpendOn(value));
    const std::optional<size_t> i = IndexIn(*index, Length(text));
    if (!i) return std::optional<Value>();
    const size_t begin = ByteOffset(text, *i);
    const size_t end = begin + ByteOffset(std::string_view(text).substr(begin), 1);
    return std::optional(Value::String(text.substr(begin, end - begin), value.is_markup()));
  }
  return std::optional<Value>();
}

absl::StatusOr<std::optional<Value>> AttributeOf(Runtime& runtime, const Value& value,
                                                 std::string_view name) {
  ASSIGN_OR_RETURN(std::optional<Value> method, FindMethod(runtime, value, name));
  if (method || !value.is_object()) return method;
  return value.object()->Attribute(runtime, name);
}

Value Missing(const Value& value, std::string_view key) {
  return Value::Undefined(StrCat("a ", value.TypeName(), " has no ", text::Quoted(key)));
}

}  // namespace

absl::StatusOr<std::vector<Value>> Iterate(Runtime& runtime, const Value& value) {
  if (value.is_undefined()) return std::vector<Value>();
  std::vector<Value> items;
  if (value.is_string()) {
    RETURN_IF_ERROR(runtime.Charge(value.text().size() * sizeof(Value)));
    for (std::string& c : Characters(value.text())) {
      items.push_back(Value::String(std::move(c), value.is_markup()));
    }
  } else if (const auto* dict = value.As<Dict>()) {
    for (const auto& entry : dict->entries) items.push_back(entry.first);
  } else if (auto* sequence = value.As<Sequence>()) {
    if (sequence->sized()) {
      RETURN_IF_ERROR(runtime.Charge(sequence->items.size() * sizeof(Value)));
      items = sequence->items;
    } else {
      items.assign(sequence->items.begin() + static_cast<ptrdiff_t>(sequence->next),
                   sequence->items.end());
      sequence->next = sequence->items.size();
    }
  } else {
    return InvalidArgument("a ", value.TypeName(), " cannot be iterated over");
  }
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(items.size())));
  return items;
}

absl::StatusOr<Value> LengthOf(const Value& value) {
  size_t n = 0;
  if (value.is_string()) {
    n = Length(value.text());
  } else if (const auto* dict = value.As<Dict>()) {
    n = dict->entries.size();
  } else if (const auto* sequence = value.As<Sequence>();
             sequence != nullptr && sequence->sized()) {
    n = sequence->items.size();
  } else if (!value.is_undefined()) {
    return InvalidArgument("a ", value.TypeName(), " has no length");
  }
  return Value::Number(static_cast<Int>(n));
}

absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& value, const Value& key) {
  RETURN_IF_ERROR(CheckDefined(value));
  ASSIGN_OR_RETURN(const std::optional<Value> item, Subscript(runtime, value, key));
  if (item) return *item;
  if (key.is_string()) {
    ASSIGN_OR_RETURN(const std::optional<Value> attribute, AttributeOf(runtime, value, key.text()));
    return attribute ? *attribute : Missing(value, key.text());
  }
  return Value::Undefined(StrCat("a ", value.TypeName(), " has no such item"));
}

absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& value, std::string_view name) {
  RETURN_IF_ERROR(CheckDefined(value));
  ASSIGN_OR_RETURN(const std::optional<Value> attribute, AttributeOf(runtime, value, name));
  if (attribute) return *attribute;
  if (const auto* dict = value.As<Dict>()) {
    if (const Value* item = dict->Find(name)) return *item;
  }
  return Missing(value, name);
}

absl::StatusOr<Value> Slice(Runtime& runtime, const Value& value, const Value& start,
                            const Value& stop, const Value& step) {
  RETURN_IF_ERROR(CheckDefined(value));
  const auto* sequence = value.As<Sequence>();
  if (!value.is_string() && (sequence == nullptr || !sequence->indexable())) {
    return InvalidArgument("a ", value.TypeName(), " cannot be sliced");
  }
  Int stride = 1;
  if (!step.is_none()) {
    ASSIGN_OR_RETURN(stride, ToInt(step, "the step of a slice"));
    if (stride == 0) return InvalidArgument("the step of a slice cannot be 0");
  }
  const std::string* text = value.is_string() ? &value.text() : nullptr;
  const Int size = static_cast<Int>(text != nullptr ? Length(*text) : sequence->items.size());
  // As PySlice_AdjustIndices: bounds fall to the nearest that is there.
  const auto bound = [&](const Value& given, Int otherwise) -> absl::StatusOr<Int> {
    if (given.is_none()) return otherwise;
    ASSIGN_OR_RETURN(Int at, ToInt(given, "a bound of a slice"));
    const Int lowest = stride < 0 ? -1 : 0, highest = stride < 0 ? size - 1 : size;
    if (at < 0) at = at < -size ? lowest : at + size;
    return std::clamp(at, lowest, std::max(lowest, highest));
  };
  ASSIGN_OR_RETURN(const Int from, bound(start, stride < 0 ? size - 1 : 0));
  ASSIGN_OR_RETURN(const Int to, bound(stop, stride < 0 ? -1 : size));
  stride = std::clamp<Int>(stride, -size - 1, size + 1);
  if (text != nullptr) {
    if (stride == 1) {
      if (from >= to) return runtime.MakeText("", value.is_markup());
      const size_t begin = ByteOffset(*text, static_cast<size_t>(from));
      const size_t end =
          begin + ByteOffset(std::string_view(*text).substr(begin), static_cast<size_t>(to - from));
      return runtime.MakeText(text->substr(begin, end - begin), value.is_markup());
    }
    RETURN_IF_ERROR(runtime.Charge(text->size() * sizeof(std::string)));
    const std::vector<std::string> characters = Characters(*text);
    std::string out;
    for (Int i = from; stride < 0 ? i > to : i < to; i += stride) {
      out += characters[static_cast<size_t>(i)];
    }
    return runtime.MakeText(std::move(out), value.is_markup());
  }
  std::vector<Value> items;
  for (Int i = from; stride < 0 ? i > to : i < to; i += stride) {
    items.push_back(sequence->items[static_cast<size_t>(i)]);
  }
  ASSIGN_OR_RETURN(const Value made, runtime.MakeSequence(sequence->flavor, std::move(items)));
  if (sequence->flavor == Sequence::kRange) {
    auto* range = made.As<Sequence>();
    // Within bounds: a range's numbers are below 2^100, and it has at most kMaxRange items.
    range->start = sequence->start + from * sequence->step;
    range->stop = sequence->start + to * sequence->step;
    const std::optional<Int> product = Multiply(sequence->step, stride);
    if (!product) return InvalidArgument("the step of a range has more than 127 bits");
    range->step = *product;
  }
  return made;
}

absl::StatusOr<Value> CallValue(Runtime& runtime, const Value& callee, const Arguments& arguments) {
  RETURN_IF_ERROR(CheckDefined(callee));
  const auto* function = callee.As<Function>();
  if (function == nullptr) return InvalidArgument("a ", callee.TypeName(), " cannot be called");
  return function->call(runtime, arguments);
}

}  // namespace trireme::jinja
