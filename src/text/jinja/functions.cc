// The global functions.
#include <algorithm>
#include <memory>

#include "text/jinja/access.h"
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/quoted.h"
#include "text/utf8.h"

namespace trireme::jinja {
namespace {

absl::StatusOr<Value> Range(Runtime& runtime, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "range", {"start", "stop", "step"}));
  if (p[0] == nullptr || !arguments.named.empty()) return InvalidArgument("range takes integers");
  Int bounds[3] = {0, 0, 1};
  for (int i = 0; i < 3; ++i) {
    if (p[i] == nullptr) continue;
    ASSIGN_OR_RETURN(bounds[i], ToInt(*p[i], "an argument of range"));
    // Far beyond any range that is allowed, so that nothing below overflows.
    bounds[i] = std::clamp<Int>(bounds[i], -(Int{1} << 100), Int{1} << 100);
  }
  if (p[1] == nullptr) std::swap(bounds[0], bounds[1]);
  const auto [start, stop, step] = bounds;
  if (step == 0) return InvalidArgument("the step of a range cannot be 0");
  const Int length =
      step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
  if (length > kMaxRange) return ResourceExhausted("a range has more than ", kMaxRange, " items");
  std::vector<Value> items;
  for (Int i = 0; i < length; ++i) items.push_back(Value::Number(start + i * step));
  ASSIGN_OR_RETURN(const Value range, runtime.MakeSequence(Sequence::kRange, std::move(items)));
  auto* sequence = range.As<Sequence>();
  sequence->start = start;
  sequence->stop = stop;
  sequence->step = step;
  return range;
}

// dict(other, a=1), of a mapping or of pairs.
absl::StatusOr<Value> MakeDictOf(Runtime& runtime, const Arguments& arguments) {
  std::vector<Dict::Entry> entries;
  if (arguments.positional.size() > 1) return InvalidArgument("dict takes one argument");
  for (const Value& other : arguments.positional) {
    if (const auto* dict = other.As<Dict>()) {
      entries = dict->entries;
      continue;
    }
    ASSIGN_OR_RETURN(const std::vector<Value> pairs, Iterate(runtime, other));
    for (const Value& pair : pairs) {
      ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(runtime, pair));
      if (items.size() != 2) return InvalidArgument("dict takes pairs");
      entries.emplace_back(std::move(items[0]), std::move(items[1]));
    }
  }
  for (const auto& [name, value] : arguments.named) {
    entries.emplace_back(Value::String(name), value);
  }
  return runtime.MakeDict(std::move(entries));
}

absl::StatusOr<Value> MakeNamespace(Runtime& runtime, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value dict, MakeDictOf(runtime, arguments));
  RETURN_IF_ERROR(runtime.Charge(sizeof(Namespace)));
  auto* space = runtime.New<Namespace>();
  for (const auto& [key, value] : dict.As<Dict>()->entries) {
    if (key.is_string() && key.text().starts_with('_')) {
      return InvalidArgument("an attribute of a namespace cannot begin with '_'");
    }
    space->attributes.Set(key, value);
  }
  return Value::Of(space);
}

absl::StatusOr<Value> RaiseException(Runtime& runtime, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "raise_exception", {"message"}));
  if (p[0] == nullptr) return InvalidArgument("raise_exception takes a message");
  ASSIGN_OR_RETURN(const std::string message, Str(runtime, *p[0]));
  return InvalidArgument(message);
}

absl::StatusOr<Value> StrftimeNow(Runtime& runtime, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "strftime_now", {"format"}));
  if (p[0] == nullptr) return InvalidArgument("strftime_now takes a format");
  ASSIGN_OR_RETURN(const std::string format, ToText(*p[0], "the format of strftime_now"));
  if (format.empty()) return runtime.MakeText("");
  char out[512];
  const size_t n = std::strftime(out, sizeof(out), format.c_str(), &runtime.now());
  const std::string text(out, n);
  if (n == 0 || format.size() != std::string_view(format.c_str()).size() ||
      text::FindInvalidUtf8(text) != std::string::npos) {
    return InvalidArgument("strftime_now cannot use the format ", text::Quoted(format));
  }
  return runtime.MakeText(text);
}

// cycler('odd', 'even'): .next(), .current, .reset()
struct Cycler : Object {
  std::string TypeName() const override { return "Cycler"; }

  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override {
    if (name == "current") return std::optional(items[at]);
    if (name != "next" && name != "reset") return std::optional<Value>();
    const bool next = name == "next";
    ASSIGN_OR_RETURN(const Value function,
                     runtime.MakeFunction([this, next](Runtime&, const Arguments&) {
                       const Value item = next ? items[at] : Value();
                       at = next ? (at + 1) % items.size() : 0;
                       return absl::StatusOr<Value>(item);
                     }));
    return std::optional(function);
  }

  std::vector<Value> items;
  size_t at = 0;
};

absl::StatusOr<Value> MakeCycler(Runtime& runtime, const Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.named.empty()) {
    return InvalidArgument("cycler takes the values to go through");
  }
  RETURN_IF_ERROR(runtime.Charge(sizeof(Cycler) + arguments.positional.size() * sizeof(Value)));
  auto* cycler = runtime.New<Cycler>();
  cycler->items = arguments.positional;
  return Value::Of(cycler);
}

// joiner(', '): nothing the first time it is called, then the separator.
absl::StatusOr<Value> MakeJoiner(Runtime& runtime, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "joiner", {"sep"}));
  const Value separator = p[0] == nullptr ? Value::String(", ") : *p[0];
  return runtime.MakeFunction(
      [separator, used = std::make_shared<bool>(false)](Runtime&, const Arguments&) {
        return absl::StatusOr<Value>(std::exchange(*used, true) ? separator : Value::String(""));
      });
}

struct Entry {
  std::string_view name;
  absl::StatusOr<Value> (*function)(Runtime&, const Arguments&);
};

constexpr Entry kFunctions[] = {
    {"cycler", MakeCycler},
    {"dict", MakeDictOf},
    {"joiner", MakeJoiner},
    {"namespace", MakeNamespace},
    {"raise_exception", RaiseException},
    {"range", Range},
    {"strftime_now", StrftimeNow},
};

}  // namespace

absl::StatusOr<Value> FindGlobal(Runtime& runtime, std::string_view name) {
  for (const Entry& entry : kFunctions) {
    if (entry.name == name) return runtime.MakeFunction(entry.function);
  }
  return Value::Undefined(StrCat(text::Quoted(name), " is undefined"));
}

}  // namespace trireme::jinja
