#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <numeric>

#include "text/jinja/format.h"
#include "text/jinja/numbers.h"
#include "text/jinja/strings.h"

namespace trireme::jinja {
namespace {

absl::Status NotSupported(std::string_view op, const Value& a, const Value& b) {
  RETURN_IF_ERROR(CheckDefined(a));
  RETURN_IF_ERROR(CheckDefined(b));
  return InvalidArgument("cannot compute ", a.TypeName(), " ", op, " ", b.TypeName());
}

absl::Status TooLarge() { return InvalidArgument("an integer has more than 127 bits"); }

absl::StatusOr<Value> NumberOr(const std::optional<Int>& n) {
  if (!n) return TooLarge();
  return Value::Number(*n);
}

// Exact, unlike a comparison of the int as a double. The double is not NaN.
std::strong_ordering CompareExactly(Int n, double d) {
  if (d >= 0x1p127) return std::strong_ordering::less;
  if (d < -0x1p127) return std::strong_ordering::greater;
  const double floor = std::floor(d);
  const auto whole = static_cast<Int>(floor);
  if (n != whole) return n <=> whole;
  return d > floor ? std::strong_ordering::less : std::strong_ordering::equal;
}

// nullopt unless both are numbers.
std::optional<std::partial_ordering> CompareNumbers(const Value& a, const Value& b) {
  const std::optional<Int> n = a.AsInt(), m = b.AsInt();
  const std::optional<double> x = a.AsFloat(), y = b.AsFloat();
  if (!x || !y) return std::nullopt;
  if (n && m) return *n <=> *m;
  if (std::isnan(*x) || std::isnan(*y)) return std::partial_ordering::unordered;
  if (n) return CompareExactly(*n, *y);
  if (m) return 0 <=> CompareExactly(*m, *x);
  return *x <=> *y;
}

absl::StatusOr<bool> SameItems(Runtime& runtime, const std::vector<Value>& a,
                               const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSIGN_OR_RETURN(const bool same, Equals(runtime, a[i], b[i]));
    if (!same) return false;
  }
  return true;
}

absl::StatusOr<bool> SameDict(Runtime& runtime, const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.Find(key);
    if (other == nullptr) return false;
    ASSIGN_OR_RETURN(const bool same, Equals(runtime, value, *other));
    if (!same) return false;
  }
  return true;
}

// s * n of a text, a list or a tuple; nullopt for other types.
absl::StatusOr<std::optional<Value>> Repeat(Runtime& runtime, const Value& what, Int times) {
  const Int n = std::max<Int>(times, 0);
  const auto* sequence = what.As<Sequence>();
  const bool items = sequence != nullptr &&
                     (sequence->flavor == Sequence::kList || sequence->flavor == Sequence::kTuple);
  if (!what.is_string() && !items) return std::optional<Value>();
  const size_t size = items ? sequence->items.size() * sizeof(Value) : what.text().size();
  if (size > 0 && n > runtime.limits().bytes / static_cast<int64_t>(size)) {
    RETURN_IF_ERROR(runtime.Charge(static_cast<size_t>(runtime.limits().bytes) + 1));
  }
  const size_t count = size == 0 ? 0 : static_cast<size_t>(n);
  if (what.is_string()) {
    RETURN_IF_ERROR(runtime.Charge(size * count));
    std::string out;
    out.reserve(size * count);
    for (size_t i = 0; i < count; ++i) out += what.text();
    return std::optional(Value::String(std::move(out), what.is_markup()));
  }
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(sequence->items.size() * count)));
  std::vector<Value> out;
  out.reserve(sequence->items.size() * count);
  for (size_t i = 0; i < count; ++i) {
    out.insert(out.end(), sequence->items.begin(), sequence->items.end());
  }
  ASSIGN_OR_RETURN(const Value made, runtime.MakeSequence(sequence->flavor, std::move(out)));
  return std::optional(made);
}

absl::StatusOr<Value> AddValues(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    const bool markup = a.is_markup() || b.is_markup();
    if (markup && !(a.is_markup() && b.is_markup())) {
      return runtime.MakeText(
          a.is_markup() ? a.text() + EscapeHtml(b.text()) : EscapeHtml(a.text()) + b.text(), true);
    }
    RETURN_IF_ERROR(runtime.Charge(a.text().size() + b.text().size()));
    return Value::String(a.text() + b.text(), markup);
  }
  const auto* left = a.As<Sequence>();
  const auto* right = b.As<Sequence>();
  if (left != nullptr && right != nullptr && left->flavor == right->flavor &&
      (left->flavor == Sequence::kList || left->flavor == Sequence::kTuple)) {
    std::vector<Value> items = left->items;
    items.insert(items.end(), right->items.begin(), right->items.end());
    return runtime.MakeSequence(left->flavor, std::move(items));
  }
  return NotSupported("+", a, b);
}

absl::StatusOr<Value> IntArithmetic(std::string_view op, Int a, Int b) {
  if (op == "+") return NumberOr(Add(a, b));
  if (op == "-") return NumberOr(Subtract(a, b));
  if (op == "*") return NumberOr(Multiply(a, b));
  if (op == "**") {
    if (b >= 0) return NumberOr(Power(a, b));
    if (a == 0) return InvalidArgument("0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)));
  }
  if (b == 0) return InvalidArgument("division by zero");
  if (op == "/") return Value::Float(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1 && !Subtract(0, a)) return TooLarge();
  return Value::Number(op == "//" ? FloorDivide(a, b) : FloorModulo(a, b));
}

absl::StatusOr<Value> FloatArithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value::Float(a + b);
  if (op == "-") return Value::Float(a - b);
  if (op == "*") return Value::Float(a * b);
  if (op == "**") {
    const double power = std::pow(a, b);
    if ((a == 0 && b < 0) || (std::isnan(power) && !std::isnan(a) && !std::isnan(b)) ||
        (std::isinf(power) && std::isfinite(a) && std::isfinite(b))) {
      return InvalidArgument("the power is no finite real number");
    }
    return Value::Float(power);
  }
  if (b == 0) return InvalidArgument("division by zero");
  if (op == "/") return Value::Float(a / b);
  return Value::Float(op == "//" ? FloorDivide(a, b) : FloorModulo(a, b));
}

}  // namespace

bool Truth(const Value& value) {
  if (value.is_bool()) return value.boolean();
  if (value.is_undefined() || value.is_none()) return false;
  if (const std::optional<Int> n = value.AsInt()) return *n != 0;
  if (value.is_float()) return value.real() != 0;
  if (value.is_string()) return !value.text().empty();
  if (const auto* dict = value.As<Dict>()) return !dict->entries.empty();
  const auto* sequence = value.As<Sequence>();
  return sequence == nullptr || !sequence->sized() || !sequence->items.empty();
}

absl::StatusOr<bool> Equals(Runtime& runtime, const Value& a, const Value& b) {
  RETURN_IF_ERROR(runtime.Spend());
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_string() && b.is_string()) {
    RETURN_IF_ERROR(runtime.SpendOn(a));
    return a.text() == b.text();
  }
  if (const auto order = CompareNumbers(a, b)) return *order == 0;
  const auto *s = a.As<Sequence>(), *t = b.As<Sequence>();
  if (s != nullptr && t != nullptr && s->indexable()) {
    if (s->flavor != t->flavor) return false;
    return SameItems(runtime, s->items, t->items);
  }
  const auto *d = a.As<Dict>(), *e = b.As<Dict>();
  if (d != nullptr && e != nullptr) return SameDict(runtime, *d, *e);
  return a.Is(b);
}

absl::StatusOr<bool> Less(Runtime& runtime, const Value& a, const Value& b) {
  RETURN_IF_ERROR(runtime.Spend());
  if (a.is_string() && b.is_string()) {
    RETURN_IF_ERROR(runtime.SpendOn(a));
    return a.text() < b.text();
  }
  if (const auto order = CompareNumbers(a, b)) return *order < 0;
  const auto *s = a.As<Sequence>(), *t = b.As<Sequence>();
  if (s != nullptr && t != nullptr && s->flavor == t->flavor && s->flavor <= Sequence::kTuple) {
    for (size_t i = 0; i < std::min(s->items.size(), t->items.size()); ++i) {
      ASSIGN_OR_RETURN(const bool same, Equals(runtime, s->items[i], t->items[i]));
      if (!same) return Less(runtime, s->items[i], t->items[i]);
    }
    return s->items.size() < t->items.size();
  }
  return NotSupported("<", a, b);
}

absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_undefined()) return false;
  if (container.is_string()) {
    if (!item.is_string()) return NotSupported("in", item, container);
    RETURN_IF_ERROR(runtime.SpendOn(container));
    return Find(container.text(), item.text()) != std::string::npos;
  }
  if (const auto* dict = container.As<Dict>()) {
    if (!IsHashable(item)) return NotSupported("in", item, container);
    RETURN_IF_ERROR(SpendOnLookup(runtime, *dict, item));
    return dict->Find(item) != nullptr;
  }
  auto* sequence = container.As<Sequence>();
  if (sequence == nullptr) return NotSupported("in", item, container);
  for (size_t& i = sequence->next; i < sequence->items.size();) {
    ASSIGN_OR_RETURN(const bool same, Equals(runtime, item, sequence->items[i++]));
    if (same && sequence->sized()) i = 0;
    if (same) return true;
  }
  if (sequence->sized()) sequence->next = 0;
  return false;
}

absl::StatusOr<bool> Compare(Runtime& runtime, std::string_view op, const Value& a,
                             const Value& b) {
  const auto negated = [](absl::StatusOr<bool> result) {
    if (result.ok()) *result = !*result;
    return result;
  };
  if (op == "==") return Equals(runtime, a, b);
  if (op == "!=") return negated(Equals(runtime, a, b));
  if (op == "in") return Contains(runtime, b, a);
  if (op == "notin") return negated(Contains(runtime, b, a));
  if (op == "<") return Less(runtime, a, b);
  if (op == ">") return Less(runtime, b, a);
  const auto order = CompareNumbers(a, b);
  if (order && *order == std::partial_ordering::unordered) return false;
  if (op == "<=") return negated(Less(runtime, b, a));
  return negated(Less(runtime, a, b));
}

absl::StatusOr<Value> Arithmetic(Runtime& runtime, std::string_view op, const Value& a,
                                 const Value& b) {
  const std::optional<Int> n = a.AsInt(), m = b.AsInt();
  if (n && m) return IntArithmetic(op, *n, *m);
  const std::optional<double> x = a.AsFloat(), y = b.AsFloat();
  if (x && y) return FloatArithmetic(op, *x, *y);
  if (op == "+") return AddValues(runtime, a, b);
  if (op == "%" && a.is_string()) return FormatPercent(runtime, a, b);
  if (op == "*" && (n || m)) {
    ASSIGN_OR_RETURN(const std::optional<Value> repeated,
                     n ? Repeat(runtime, b, *n) : Repeat(runtime, a, *m));
    if (repeated) return *repeated;
  }
  return NotSupported(op, a, b);
}

absl::StatusOr<Value> Negate(const Value& value) {
  if (const std::optional<Int> n = value.AsInt()) return NumberOr(Subtract(0, *n));
  if (value.is_float()) return Value::Float(-value.real());
  RETURN_IF_ERROR(CheckDefined(value));
  return InvalidArgument("a ", value.TypeName(), " has no negative");
}

absl::Status SpendOnLookup(Runtime& runtime, const Dict& dict, const Value& key) {
  return key.is_string() ? runtime.SpendOn(key)
                         : runtime.Spend(static_cast<int64_t>(dict.entries.size()));
}

absl::Status CheckDefined(const Value& value) {
  if (!value.is_undefined()) return absl::OkStatus();
  return InvalidArgument(value.why_undefined());
}

absl::StatusOr<Int> ToInt(const Value& value, std::string_view what) {
  if (const std::optional<Int> n = value.AsInt()) return *n;
  RETURN_IF_ERROR(CheckDefined(value));
  return InvalidArgument(what, " must be an integer, not a ", value.TypeName());
}

absl::StatusOr<std::string> ToText(const Value& value, std::string_view what) {
  if (value.is_string()) return value.text();
  RETURN_IF_ERROR(CheckDefined(value));
  return InvalidArgument(what, " must be a string, not a ", value.TypeName());
}

absl::StatusOr<std::vector<Value>> SortBy(Runtime& runtime, const std::vector<Value>& items,
                                          const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  absl::Status status;  // the first error; from then on nothing is less than anything
  const auto less = [&](size_t a, size_t b) {
    if (!status.ok()) return false;
    const absl::StatusOr<bool> result =
        reverse ? Less(runtime, keys[b], keys[a]) : Less(runtime, keys[a], keys[b]);
    status = result.status();
    return result.ok() && *result;
  };
  std::stable_sort(order.begin(), order.end(), less);
  RETURN_IF_ERROR(status);
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (size_t i : order) sorted.push_back(items[i]);
  return sorted;
}

}  // namespace trireme::jinja
