#include "text/jinja/methods.h"

#include <algorithm>
#include <span>

#include "text/jinja/access.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"

namespace trireme::jinja {
namespace {

using Body = absl::StatusOr<Value> (*)(Runtime&, const Value& self, const Arguments&);

struct Method {
  std::string_view name;
  Body body;
};

absl::StatusOr<int64_t> CountOr(const Value* value, int64_t otherwise, std::string_view what) {
  if (value == nullptr || value->is_none()) return otherwise;
  ASSIGN_OR_RETURN(const Int n, ToInt(*value, what));
  return static_cast<int64_t>(std::clamp<Int>(n, -1, INT32_MAX));
}

// A method str -> str without parameters.
template <std::string (*convert)(std::string_view)>
absl::StatusOr<Value> Convert(Runtime& runtime, const Value& self, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "the method", {}).status());
  return runtime.MakeText(convert(self.text()), self.is_markup());
}

template <char what>
absl::StatusOr<Value> Is(Runtime&, const Value& self, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "the method", {}).status());
  return Value::Bool(IsAll(what, self.text()));
}

template <bool left, bool right>
absl::StatusOr<Value> StripSides(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "strip", {"chars"}));
  std::string_view text = self.text();
  if (p[0] == nullptr || p[0]->is_none()) {
    if (left) text = StripLeft(text);
    if (right) text = StripRight(text);
  } else {
    ASSIGN_OR_RETURN(const std::string set, ToText(*p[0], "strip's argument"));
    if (left) text = StripLeft(text, set);
    if (right) text = StripRight(text, set);
  }
  return runtime.MakeText(std::string(text), self.is_markup());
}

absl::StatusOr<Value> Texts(Runtime& runtime, std::vector<std::string> parts, bool markup) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string& part : parts) {
    ASSIGN_OR_RETURN(Value item, runtime.MakeText(std::move(part), markup));
    items.push_back(std::move(item));
  }
  return runtime.MakeList(std::move(items));
}

template <bool back>
absl::StatusOr<Value> SplitText(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "split", {"sep", "maxsplit"}));
  ASSIGN_OR_RETURN(const int64_t max, CountOr(p[1], -1, "maxsplit"));
  const std::string& text = self.text();
  RETURN_IF_ERROR(runtime.Charge(text.size()));
  if (p[0] == nullptr || p[0]->is_none()) {
    return Texts(runtime, back ? SplitSpacesBack(text, max) : SplitSpaces(text, max),
                 self.is_markup());
  }
  ASSIGN_OR_RETURN(const std::string separator, ToText(*p[0], "the separator of split"));
  if (separator.empty()) return InvalidArgument("the separator of split is empty");
  RETURN_IF_ERROR(runtime.Charge(Count(text, separator) * sizeof(Value)));
  return Texts(runtime, back ? SplitBack(text, separator, max) : Split(text, separator, max),
               self.is_markup());
}

absl::StatusOr<Value> SplitLinesOf(Runtime& runtime, const Value& self,
                                   const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "splitlines", {"keepends"}));
  RETURN_IF_ERROR(runtime.Charge(self.text().size() * 8));
  return Texts(runtime, SplitLines(self.text(), p[0] != nullptr && Truth(*p[0])), self.is_markup());
}

template <bool back>
absl::StatusOr<Value> Partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "partition", {"sep"}));
  if (p[0] == nullptr) return InvalidArgument("partition takes a separator");
  ASSIGN_OR_RETURN(const std::string separator, ToText(*p[0], "the separator of partition"));
  if (separator.empty()) return InvalidArgument("the separator of partition is empty");
  const std::string& text = self.text();
  const size_t at = back ? FindLast(text, separator) : Find(text, separator);
  std::vector<std::string> parts = {text, "", ""};
  if (at != std::string::npos) {
    parts = {text.substr(0, at), separator, text.substr(at + separator.size())};
  } else if (back) {
    std::swap(parts[0], parts[2]);
  }
  ASSIGN_OR_RETURN(const Value list, Texts(runtime, std::move(parts), self.is_markup()));
  return runtime.MakeTuple(list.As<Sequence>()->items);
}

template <bool end>
absl::StatusOr<Value> HasAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p,
                   Bind(arguments, end ? "endswith" : "startswith", {"prefix", "start", "end"}));
  if (p[0] == nullptr) return InvalidArgument("startswith and endswith take a string");
  std::string text = self.text();
  if (p[1] != nullptr || p[2] != nullptr) {
    ASSIGN_OR_RETURN(const Value part,
                     Slice(runtime, self, p[1] ? *p[1] : Value(), p[2] ? *p[2] : Value(), Value()));
    text = part.text();
  }
  const auto* tuple = p[0]->As<Sequence>();
  const bool several = tuple != nullptr && tuple->flavor == Sequence::kTuple;
  const std::vector<Value> one = {*p[0]};
  for (const Value& item : several ? tuple->items : one) {
    ASSIGN_OR_RETURN(const std::string affix,
                     ToText(item, "what startswith or endswith looks for"));
    if (end ? text.ends_with(affix) : text.starts_with(affix)) return Value::Bool(true);
  }
  return Value::Bool(false);
}

enum class Search { kFind, kFindBack, kIndex, kIndexBack, kCount };

template <Search search>
absl::StatusOr<Value> FindText(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "find", {"sub", "start", "end"}));
  if (p[0] == nullptr) return InvalidArgument("find, index and count take a string");
  ASSIGN_OR_RETURN(const std::string part, ToText(*p[0], "what find looks for"));
  const Int size = static_cast<Int>(Length(self.text()));
  Int start = 0;
  Value text = self;
  if (p[1] != nullptr || p[2] != nullptr) {
    ASSIGN_OR_RETURN(text,
                     Slice(runtime, self, p[1] ? *p[1] : Value(), p[2] ? *p[2] : Value(), Value()));
    if (p[1] != nullptr && !p[1]->is_none()) {
      ASSIGN_OR_RETURN(start, ToInt(*p[1], "the start of find"));
      if (start < 0) start = std::max<Int>(start + size, 0);
    }
  }
  // Nothing is found behind the end, not even nothing.
  const bool outside = start > size;
  if (search == Search::kCount) {
    return Value::Number(outside ? 0 : static_cast<Int>(Count(text.text(), part)));
  }
  const bool back = search == Search::kFindBack || search == Search::kIndexBack;
  const size_t at = back ? FindLast(text.text(), part) : Find(text.text(), part);
  if (outside || at == std::string::npos) {
    if (search == Search::kFind || search == Search::kFindBack) return Value::Number(-1);
    return InvalidArgument("substring not found");
  }
  return Value::Number(start + static_cast<Int>(Length(text.text().substr(0, at))));
}

absl::StatusOr<Value> ReplaceIn(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "replace", {"old", "new", "count"}));
  if (p[0] == nullptr || p[1] == nullptr) return InvalidArgument("replace takes two strings");
  ASSIGN_OR_RETURN(const std::string from, ToText(*p[0], "what replace replaces"));
  ASSIGN_OR_RETURN(std::string to, ToText(*p[1], "what replace inserts"));
  if (self.is_markup() && !p[1]->is_markup()) to = EscapeHtml(to);
  ASSIGN_OR_RETURN(const int64_t max, CountOr(p[2], -1, "the count of replace"));
  const size_t n = Count(self.text(), from);
  RETURN_IF_ERROR(runtime.Charge(max < 0 ? n * to.size() : std::min<size_t>(n, max) * to.size()));
  return runtime.MakeText(Replace(self.text(), from, to, max), self.is_markup());
}

absl::StatusOr<Value> JoinWith(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "join", {"iterable"}));
  if (p[0] == nullptr) return InvalidArgument("join takes an iterable");
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, *p[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += self.text();
    ASSIGN_OR_RETURN(const std::string item, self.is_markup()
                                                 ? Str(runtime, items[i])
                                                 : ToText(items[i], "what join joins"));
    out += self.is_markup() && !items[i].is_markup() ? EscapeHtml(item) : item;
    RETURN_IF_ERROR(runtime.Charge(item.size() + self.text().size()));
  }
  return Value::String(std::move(out), self.is_markup());
}

template <bool end>
absl::StatusOr<Value> RemoveAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "removeprefix", {"affix"}));
  if (p[0] == nullptr) return InvalidArgument("removeprefix and removesuffix take a string");
  ASSIGN_OR_RETURN(const std::string affix, ToText(*p[0], "what removeprefix removes"));
  std::string_view text = self.text();
  if (end && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!end && text.starts_with(affix)) text.remove_prefix(affix.size());
  return runtime.MakeText(std::string(text), self.is_markup());
}

enum class Side { kLeft, kRight, kBoth };

template <Side side>
absl::StatusOr<Value> Justify(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "ljust", {"width", "fillchar"}));
  if (p[0] == nullptr) return InvalidArgument("ljust, rjust and center take a width");
  ASSIGN_OR_RETURN(const int64_t width, CountOr(p[0], 0, "the width"));
  std::string fill = " ";
  if (p[1] != nullptr) {
    ASSIGN_OR_RETURN(fill, ToText(*p[1], "the fill character"));
    if (Length(fill) != 1) return InvalidArgument("the fill character must be one character");
  }
  const int64_t missing = width - static_cast<int64_t>(Length(self.text()));
  if (missing <= 0) return self;
  RETURN_IF_ERROR(runtime.Charge(static_cast<size_t>(missing) * fill.size()));
  int64_t left = side == Side::kRight ? missing : 0;
  if (side == Side::kBoth) left = missing / 2 + (missing & width & 1);  // as CPython's pad()
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.text();
  for (int64_t i = left; i < missing; ++i) out += fill;
  return runtime.MakeText(std::move(out), self.is_markup());
}

absl::StatusOr<Value> ZeroFill(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "zfill", {"width"}));
  if (p[0] == nullptr) return InvalidArgument("zfill takes a width");
  ASSIGN_OR_RETURN(const int64_t width, CountOr(p[0], 0, "the width"));
  const int64_t missing = width - static_cast<int64_t>(Length(self.text()));
  if (missing <= 0) return self;
  RETURN_IF_ERROR(runtime.Charge(static_cast<size_t>(missing)));
  std::string out = self.text();
  out.insert(out.starts_with('-') || out.starts_with('+') ? 1 : 0, static_cast<size_t>(missing),
             '0');
  return runtime.MakeText(std::move(out), self.is_markup());
}

constexpr Method kStringMethods[] = {
    {"capitalize", Convert<Capitalize>},
    {"center", Justify<Side::kBoth>},
    {"count", FindText<Search::kCount>},
    {"endswith", HasAffix<true>},
    {"find", FindText<Search::kFind>},
    {"format", FormatBraces},
    {"index", FindText<Search::kIndex>},
    {"isalnum", Is<'n'>},
    {"isalpha", Is<'a'>},
    {"isdecimal", Is<'c'>},
    {"isdigit", Is<'d'>},
    {"islower", Is<'l'>},
    {"isspace", Is<'s'>},
    {"isupper", Is<'u'>},
    {"join", JoinWith},
    {"ljust", Justify<Side::kLeft>},
    {"lower", Convert<Lower>},
    {"lstrip", StripSides<true, false>},
    {"partition", Partition<false>},
    {"removeprefix", RemoveAffix<false>},
    {"removesuffix", RemoveAffix<true>},
    {"replace", ReplaceIn},
    {"rfind", FindText<Search::kFindBack>},
    {"rindex", FindText<Search::kIndexBack>},
    {"rjust", Justify<Side::kRight>},
    {"rpartition", Partition<true>},
    {"rsplit", SplitText<true>},
    {"rstrip", StripSides<false, true>},
    {"split", SplitText<false>},
    {"splitlines", SplitLinesOf},
    {"startswith", HasAffix<false>},
    {"strip", StripSides<true, true>},
    {"swapcase", Convert<SwapCase>},
    {"title", Convert<Title>},
    {"upper", Convert<Upper>},
    {"zfill", ZeroFill},
};
constexpr std::string_view kOtherStringMethods[] = {
    "casefold",  "encode",      "expandtabs", "format_map", "isascii",  "isidentifier",
    "isnumeric", "isprintable", "istitle",    "maketrans",  "translate"};

// --- dict

template <Sequence::Flavor flavor>
absl::StatusOr<Value> View(Runtime& runtime, const Value& self, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "keys, values and items", {}).status());
  std::vector<Value> items;
  for (const auto& [key, value] : self.As<Dict>()->entries) {
    if (flavor == Sequence::kItems) {
      ASSIGN_OR_RETURN(Value pair, runtime.MakeTuple({key, value}));
      items.push_back(std::move(pair));
    } else {
      items.push_back(flavor == Sequence::kKeys ? key : value);
    }
  }
  return runtime.MakeSequence(flavor, std::move(items));
}

absl::StatusOr<Value> DictGet(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) return InvalidArgument("get takes no keyword arguments");
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "get", {"key", "default"}));
  if (p[0] == nullptr) return InvalidArgument("get takes a key");
  if (!IsHashable(*p[0])) return InvalidArgument("a ", p[0]->TypeName(), " cannot be a key");
  RETURN_IF_ERROR(SpendOnLookup(runtime, *self.As<Dict>(), *p[0]));
  const Value* found = self.As<Dict>()->Find(*p[0]);
  if (found != nullptr) return *found;
  return p[1] == nullptr ? Value() : *p[1];
}

absl::StatusOr<Value> DictCopy(Runtime& runtime, const Value& self, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "copy", {}).status());
  return runtime.MakeDict(self.As<Dict>()->entries);
}

constexpr Method kDictMethods[] = {
    {"copy", DictCopy},
    {"get", DictGet},
    {"items", View<Sequence::kItems>},
    {"keys", View<Sequence::kKeys>},
    {"values", View<Sequence::kValues>},
};
constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kOtherDictMethods[] = {"fromkeys"};

// --- list and tuple

absl::StatusOr<Value> ListCount(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "count", {"value"}));
  if (p[0] == nullptr) return InvalidArgument("count takes a value");
  Int n = 0;
  for (const Value& item : self.As<Sequence>()->items) {
    ASSIGN_OR_RETURN(const bool same, Equals(runtime, item, *p[0]));
    n += same;
  }
  return Value::Number(n);
}

absl::StatusOr<Value> ListIndex(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "index", {"value"}));
  if (p[0] == nullptr) return InvalidArgument("index takes a value");
  const std::vector<Value>& items = self.As<Sequence>()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const bool same, Equals(runtime, items[i], *p[0]));
    if (same) return Value::Number(static_cast<Int>(i));
  }
  return InvalidArgument("the value is not in the list");
}

absl::StatusOr<Value> ListCopy(Runtime& runtime, const Value& self, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "copy", {}).status());
  return runtime.MakeList(self.As<Sequence>()->items);
}

// A tuple has the first two.
constexpr Method kListMethods[] = {{"count", ListCount}, {"index", ListIndex}, {"copy", ListCopy}};
constexpr std::string_view kListChanges[] = {"append", "clear",  "extend",  "insert",
                                             "pop",    "remove", "reverse", "sort"};

constexpr std::string_view kOtherNumberAttributes[] = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
    "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
    "numerator",        "real",      "to_bytes"};

bool IsOneOf(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value Unsafe(const Value& value, std::string_view name) {
  return Value::Undefined(
      StrCat("a template cannot use ", value.TypeName(), ".", name, ": values do not change"));
}

}  // namespace

absl::StatusOr<std::optional<Value>> FindMethod(Runtime& runtime, const Value& value,
                                                std::string_view name) {
  std::span<const Method> methods;
  std::span<const std::string_view> others, changes;
  if (value.is_string()) {
    methods = kStringMethods;
    others = kOtherStringMethods;
  } else if (value.As<Dict>() != nullptr) {
    methods = kDictMethods;
    others = kOtherDictMethods;
    changes = kDictChanges;
  } else if (const auto* sequence = value.As<Sequence>()) {
    if (sequence->flavor == Sequence::kList) {
      methods = kListMethods;
      changes = kListChanges;
    } else if (sequence->flavor == Sequence::kTuple) {
      methods = std::span(kListMethods).first(2);
    }
  } else if (value.AsFloat()) {
    others = kOtherNumberAttributes;
  }
  for (const Method& method : methods) {
    if (method.name != name) continue;
    ASSIGN_OR_RETURN(
        const Value function,
        runtime.MakeFunction([value, body = method.body](
                                 Runtime& r, const Arguments& arguments) -> absl::StatusOr<Value> {
          RETURN_IF_ERROR(r.SpendOn(value));
          return body(r, value, arguments);
        }));
    return std::optional(function);
  }
  if (IsOneOf(name, changes)) return std::optional(Unsafe(value, name));
  if (IsOneOf(name, others)) {
    return Unimplemented(value.TypeName(), ".", name, " is not supported");
  }
  return std::optional<Value>();
}

}  // namespace trireme::jinja
