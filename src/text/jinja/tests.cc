// The tests behind `is`.
#include <algorithm>
#include <iterator>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/scope.h"
#include "text/jinja/strings.h"

namespace trireme::jinja {
namespace {

template <bool (*is)(const Value&)>
absl::StatusOr<bool> Plain(Runtime&, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "the test", {}).status());
  return is(value);
}

absl::StatusOr<Value> OneArgument(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "the test", {"other"}));
  if (p[0] == nullptr) return InvalidArgument("the test takes an argument");
  return *p[0];
}

// op: an index of kOperators, as a template argument cannot be a string.
constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">=", "in"};

template <size_t op>
absl::StatusOr<bool> Compared(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value other, OneArgument(arguments));
  return Compare(runtime, kOperators[op], value, other);
}

absl::StatusOr<bool> Remainder(Runtime& runtime, const Value& value, Int divisor, Int wanted) {
  ASSIGN_OR_RETURN(const Value rest, Arithmetic(runtime, "%", value, Value::Number(divisor)));
  return Equals(runtime, rest, Value::Number(wanted));
}

template <int rest>
absl::StatusOr<bool> Parity(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "the test", {}).status());
  return Remainder(runtime, value, 2, rest);
}

absl::StatusOr<bool> DivisibleBy(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "divisibleby", {"num"}));
  if (p[0] == nullptr) return InvalidArgument("divisibleby takes a number");
  ASSIGN_OR_RETURN(const Value rest, Arithmetic(runtime, "%", value, *p[0]));
  return Equals(runtime, rest, Value::Number(0));
}

absl::StatusOr<bool> SameAs(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value other, OneArgument(arguments));
  return value.Is(other);
}

template <char what>
absl::StatusOr<bool> Cased(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "the test", {}).status());
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, value));
  return IsAll(what, text);
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsBoolean(const Value& v) { return v.is_bool(); }
bool IsTrue(const Value& v) { return v.is_bool() && v.boolean(); }
bool IsFalse(const Value& v) { return v.is_bool() && !v.boolean(); }
bool IsInteger(const Value& v) { return v.is_int(); }
bool IsFloat(const Value& v) { return v.is_float(); }
bool IsNumber(const Value& v) { return v.AsFloat().has_value(); }
bool IsString(const Value& v) { return v.is_string(); }
bool IsMapping(const Value& v) { return v.As<Dict>() != nullptr; }
bool IsCallable(const Value& v) { return v.is_undefined() || v.As<Function>() != nullptr; }
bool IsEscaped(const Value& v) { return v.is_markup(); }
bool IsFilter(const Value& v) { return v.is_string() && FindFilter(v.text()) != nullptr; }
bool IsTest(const Value& v) { return v.is_string() && FindTest(v.text()) != nullptr; }
bool IsSequence(const Value& v) {  // what has a length and can be indexed
  const auto* sequence = v.As<Sequence>();
  return v.is_undefined() || v.is_string() || IsMapping(v) ||
         (sequence != nullptr && sequence->indexable());
}
bool IsIterable(const Value& v) {
  return v.is_undefined() || v.is_string() || IsMapping(v) || v.As<Sequence>() != nullptr ||
         v.As<Loop>() != nullptr;
}

struct Entry {
  std::string_view name;
  Test test;
};

constexpr Entry kTests[] = {
    {"!=", Compared<1>},
    {"<", Compared<2>},
    {"<=", Compared<3>},
    {"==", Compared<0>},
    {">", Compared<4>},
    {">=", Compared<5>},
    {"boolean", Plain<IsBoolean>},
    {"callable", Plain<IsCallable>},
    {"defined", Plain<IsDefined>},
    {"divisibleby", DivisibleBy},
    {"eq", Compared<0>},
    {"equalto", Compared<0>},
    {"escaped", Plain<IsEscaped>},
    {"even", Parity<0>},
    {"false", Plain<IsFalse>},
    {"filter", Plain<IsFilter>},
    {"float", Plain<IsFloat>},
    {"ge", Compared<5>},
    {"greaterthan", Compared<4>},
    {"gt", Compared<4>},
    {"in", Compared<6>},
    {"integer", Plain<IsInteger>},
    {"iterable", Plain<IsIterable>},
    {"le", Compared<3>},
    {"lessthan", Compared<2>},
    {"lower", Cased<'l'>},
    {"lt", Compared<2>},
    {"mapping", Plain<IsMapping>},
    {"ne", Compared<1>},
    {"none", Plain<IsNone>},
    {"number", Plain<IsNumber>},
    {"odd", Parity<1>},
    {"sameas", SameAs},
    {"sequence", Plain<IsSequence>},
    {"string", Plain<IsString>},
    {"test", Plain<IsTest>},
    {"true", Plain<IsTrue>},
    {"undefined", Plain<IsUndefined>},
    {"upper", Cased<'u'>},
};

}  // namespace

Test FindTest(std::string_view name) {
  const auto* it = std::find_if(std::begin(kTests), std::end(kTests),
                                [&](const Entry& entry) { return entry.name == name; });
  return it == std::end(kTests) ? nullptr : it->test;
}

}  // namespace trireme::jinja
