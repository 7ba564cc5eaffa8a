// Filters of what can be iterated over.
#include <algorithm>
#include <iterator>

#include "text/jinja/access.h"
#include "text/jinja/filters.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/strings.h"

namespace trireme::jinja {
namespace {

// The items of a list-like parameter "a.b.0": what is looked up, one after the other.
class Path {
 public:
  // `attribute`: a text with dots, an integer, or null for the item itself.
  static absl::StatusOr<Path> Make(const Value* attribute) {
    Path path;
    if (attribute == nullptr || attribute->is_none()) return path;
    RETURN_IF_ERROR(CheckDefined(*attribute));
    if (!attribute->is_string()) {
      path.parts_.push_back(*attribute);
      return path;
    }
    for (const std::string& part : SplitString(attribute->text(), '.')) {
      const std::optional<Int> index = IsAll('d', part) ? ParseInt(part, 10) : std::nullopt;
      path.parts_.push_back(index ? Value::Number(*index) : Value::String(part));
    }
    return path;
  }

  absl::StatusOr<Value> Get(Runtime& runtime, Value item, const Value* otherwise) const {
    for (const Value& part : parts_) {
      ASSIGN_OR_RETURN(item, GetItem(runtime, item, part));
      if (item.is_undefined() && otherwise != nullptr && !otherwise->is_none()) item = *otherwise;
    }
    return item;
  }

 private:
  std::vector<Value> parts_;
};

absl::StatusOr<Value> IgnoreCase(Runtime& runtime, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return runtime.MakeText(Lower(value.text()));
}

bool IsTrue(const Value* value) { return value != nullptr && Truth(*value); }

// What items are sorted, grouped or compared by: an attribute (several with commas), without case.
absl::StatusOr<std::vector<Value>> Keys(Runtime& runtime, const std::vector<Value>& items,
                                        const Value* attribute, bool case_sensitive,
                                        const Value* otherwise = nullptr) {
  std::vector<Path> paths;
  if (attribute != nullptr && attribute->is_string()) {
    for (const std::string& name : SplitString(attribute->text(), ',')) {
      const Value part = Value::String(name);
      ASSIGN_OR_RETURN(Path path, Path::Make(&part));
      paths.push_back(std::move(path));
    }
  } else {
    ASSIGN_OR_RETURN(Path path, Path::Make(attribute));
    paths.push_back(std::move(path));
  }
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> parts;
    for (const Path& path : paths) {
      ASSIGN_OR_RETURN(const Value part, path.Get(runtime, item, otherwise));
      ASSIGN_OR_RETURN(Value key, IgnoreCase(runtime, part, case_sensitive));
      parts.push_back(std::move(key));
    }
    if (parts.size() == 1) {
      keys.push_back(parts[0]);
    } else {
      ASSIGN_OR_RETURN(Value key, runtime.MakeList(std::move(parts)));
      keys.push_back(std::move(key));
    }
  }
  return keys;
}

absl::StatusOr<Value> Default(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "default", {"default_value", "boolean"}));
  if (!value.is_undefined() && !(IsTrue(p[1]) && !Truth(value))) return value;
  return p[0] == nullptr ? Value::String("") : *p[0];
}

absl::StatusOr<Value> Count(Runtime&, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "length", {}).status());
  return LengthOf(value);
}

absl::StatusOr<Value> ToList(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "list", {}).status());
  ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(runtime, value));
  return runtime.MakeList(std::move(items));
}

absl::StatusOr<Value> First(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "first", {}).status());
  auto* sequence = value.As<Sequence>();
  const Value none = Value::Undefined("there is no first item");
  if (sequence != nullptr && !sequence->sized()) {
    return sequence->next < sequence->items.size() ? sequence->items[sequence->next++] : none;
  }
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  return items.empty() ? none : items.front();
}

absl::StatusOr<Value> Last(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "last", {}).status());
  const auto* sequence = value.As<Sequence>();
  if (sequence != nullptr && !sequence->sized()) {
    return InvalidArgument("an iterator has no last item: use the filter list before");
  }
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  return items.empty() ? Value::Undefined("there is no last item") : items.back();
}

absl::StatusOr<Value> Reverse(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "reverse", {}).status());
  if (value.is_string()) {
    return Slice(runtime, value, Value(), Value(), Value::Number(-1));
  }
  const auto* sequence = value.As<Sequence>();
  ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(runtime, value));
  std::reverse(items.begin(), items.end());
  return sequence != nullptr && !sequence->sized() ? runtime.MakeList(std::move(items))
                                                   : runtime.MakeIterator(std::move(items));
}

absl::StatusOr<Value> JoinItems(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "join", {"d", "attribute"}));
  std::string separator;
  if (p[0] != nullptr) {
    ASSIGN_OR_RETURN(separator, Str(runtime, *p[0]));
  }
  ASSIGN_OR_RETURN(const Path path, Path::Make(p[1]));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const Value item, path.Get(runtime, items[i], nullptr));
    ASSIGN_OR_RETURN(const std::string text, Str(runtime, item));
    RETURN_IF_ERROR(runtime.Charge(separator.size()));
    if (i > 0) out += separator;
    out += text;
  }
  return runtime.MakeText(std::move(out));
}

absl::StatusOr<Value> Items(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(Bind(arguments, "items", {}).status());
  std::vector<Value> pairs;
  const auto* dict = value.As<Dict>();
  if (dict == nullptr && !value.is_undefined()) {
    return InvalidArgument("items is for a mapping, not for a ", value.TypeName());
  }
  if (dict != nullptr) {
    for (const auto& [key, item] : dict->entries) {
      ASSIGN_OR_RETURN(Value pair, runtime.MakeTuple({key, item}));
      pairs.push_back(std::move(pair));
    }
  }
  return runtime.MakeIterator(std::move(pairs));
}

absl::StatusOr<Value> DictSort(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "dictsort", {"case_sensitive", "by", "reverse"}));
  std::string by = "key";
  if (p[1] != nullptr) {
    ASSIGN_OR_RETURN(by, ToText(*p[1], "what dictsort sorts by"));
  }
  if (by != "key" && by != "value") return InvalidArgument("dictsort sorts by key or value");
  RETURN_IF_ERROR(CheckDefined(value));
  const auto* dict = value.As<Dict>();
  if (dict == nullptr)
    return InvalidArgument("dictsort is for a mapping, not for a ", value.TypeName());
  std::vector<Value> pairs, keys;
  for (const auto& [key, item] : dict->entries) {
    ASSIGN_OR_RETURN(Value pair, runtime.MakeTuple({key, item}));
    pairs.push_back(std::move(pair));
    ASSIGN_OR_RETURN(Value sort_key, IgnoreCase(runtime, by == "key" ? key : item, IsTrue(p[0])));
    keys.push_back(std::move(sort_key));
  }
  ASSIGN_OR_RETURN(std::vector<Value> sorted, SortBy(runtime, pairs, keys, IsTrue(p[2])));
  return runtime.MakeList(std::move(sorted));
}

absl::StatusOr<Value> Sort(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p,
                   Bind(arguments, "sort", {"reverse", "case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  ASSIGN_OR_RETURN(const std::vector<Value> keys, Keys(runtime, items, p[2], IsTrue(p[1])));
  ASSIGN_OR_RETURN(std::vector<Value> sorted, SortBy(runtime, items, keys, IsTrue(p[0])));
  return runtime.MakeList(std::move(sorted));
}

absl::StatusOr<Value> Unique(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "unique", {"case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  ASSIGN_OR_RETURN(const Path path, Path::Make(p[1]));
  Dict seen;
  std::vector<Value> out;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value part, path.Get(runtime, item, nullptr));
    ASSIGN_OR_RETURN(const Value key, IgnoreCase(runtime, part, IsTrue(p[0])));
    if (!IsHashable(key))
      return InvalidArgument("a ", key.TypeName(), " cannot be told apart by unique");
    RETURN_IF_ERROR(SpendOnLookup(runtime, seen, key));
    if (seen.Find(key) != nullptr) continue;
    seen.Set(key, Value());
    out.push_back(item);
  }
  return runtime.MakeIterator(std::move(out));
}

template <bool max>
absl::StatusOr<Value> Extreme(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p,
                   Bind(arguments, max ? "max" : "min", {"case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  if (items.empty()) return Value::Undefined("there is no smallest or largest of no items");
  ASSIGN_OR_RETURN(const Path path, Path::Make(p[1]));
  size_t best = 0;
  Value best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const Value part, path.Get(runtime, items[i], nullptr));
    ASSIGN_OR_RETURN(const Value key, IgnoreCase(runtime, part, IsTrue(p[0])));
    if (i > 0) {
      ASSIGN_OR_RETURN(const bool better,
                       max ? Less(runtime, best_key, key) : Less(runtime, key, best_key));
      if (!better) continue;
    }
    best = i;
    best_key = key;
  }
  return items[best];
}

absl::StatusOr<Value> Sum(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "sum", {"attribute", "start"}));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  ASSIGN_OR_RETURN(const Path path, Path::Make(p[0]));
  Value sum = p[1] == nullptr ? Value::Number(0) : *p[1];
  if (sum.is_string()) return InvalidArgument("sum does not add strings: use join");
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value part, path.Get(runtime, item, nullptr));
    ASSIGN_OR_RETURN(sum, Arithmetic(runtime, "+", sum, part));
  }
  return sum;
}

// map(attribute='a.b', default=0), or map('filter', its arguments …)
absl::StatusOr<Value> Map(Runtime& runtime, const Value& value, const Arguments& arguments) {
  std::vector<Value> out;
  if (!Truth(value)) return runtime.MakeIterator({});
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  if (arguments.positional.empty()) {
    const Value* attribute = nullptr;
    const Value* otherwise = nullptr;
    for (const auto& [name, argument] : arguments.named) {
      if (name != "attribute" && name != "default")
        return InvalidArgument("map takes no argument ", name);
      (name == "attribute" ? attribute : otherwise) = &argument;
    }
    if (attribute == nullptr) return InvalidArgument("map takes a filter or an attribute");
    ASSIGN_OR_RETURN(const Path path, Path::Make(attribute));
    for (const Value& item : items) {
      ASSIGN_OR_RETURN(Value part, path.Get(runtime, item, otherwise));
      out.push_back(std::move(part));
    }
    return runtime.MakeIterator(std::move(out));
  }
  ASSIGN_OR_RETURN(const std::string name, ToText(arguments.positional[0], "the filter of map"));
  const Filter filter = FindFilter(name);
  if (filter == nullptr) return InvalidArgument("there is no filter ", name);
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  for (const Value& item : items) {
    RETURN_IF_ERROR(runtime.Spend());
    RETURN_IF_ERROR(runtime.SpendOn(item));
    ASSIGN_OR_RETURN(Value mapped, filter(runtime, item, rest));
    out.push_back(std::move(mapped));
  }
  return runtime.MakeIterator(std::move(out));
}

// select('test', its arguments …); selectattr('attribute', 'test', …)
template <bool keep, bool by_attribute>
absl::StatusOr<Value> Select(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!Truth(value)) return runtime.MakeIterator({});
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  Arguments rest = arguments;
  Path path;
  if (by_attribute) {
    if (rest.positional.empty())
      return InvalidArgument("the filter takes the name of an attribute");
    ASSIGN_OR_RETURN(path, Path::Make(&rest.positional[0]));
    rest.positional.erase(rest.positional.begin());
  }
  Test test = nullptr;
  if (!rest.positional.empty()) {
    ASSIGN_OR_RETURN(const std::string name, ToText(rest.positional[0], "the name of a test"));
    test = FindTest(name);
    if (test == nullptr) return InvalidArgument("there is no test ", name);
    rest.positional.erase(rest.positional.begin());
  }
  std::vector<Value> out;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value part, path.Get(runtime, item, nullptr));
    bool holds = Truth(part);
    if (test != nullptr) {
      RETURN_IF_ERROR(runtime.SpendOn(part));
      ASSIGN_OR_RETURN(holds, test(runtime, part, rest));
    }
    if (holds == keep) out.push_back(item);
  }
  return runtime.MakeIterator(std::move(out));
}

absl::StatusOr<Value> Batch(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "batch", {"linecount", "fill_with"}));
  if (p[0] == nullptr) return InvalidArgument("batch takes a count");
  ASSIGN_OR_RETURN(const Int count, ToInt(*p[0], "the count of batch"));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  std::vector<Value> out, line;
  const auto end_line = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(Value list, runtime.MakeList(std::exchange(line, {})));
    out.push_back(std::move(list));
    return absl::OkStatus();
  };
  for (const Value& item : items) {
    if (static_cast<Int>(line.size()) == count) RETURN_IF_ERROR(end_line());
    line.push_back(item);
  }
  if (!line.empty()) {
    if (p[1] != nullptr && !p[1]->is_none()) {
      if (count > runtime.limits().steps)
        return ResourceExhausted("the count of batch is too large");
      while (static_cast<Int>(line.size()) < count) line.push_back(*p[1]);
    }
    RETURN_IF_ERROR(end_line());
  }
  return runtime.MakeIterator(std::move(out));
}

absl::StatusOr<Value> SliceItems(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p, Bind(arguments, "slice", {"slices", "fill_with"}));
  if (p[0] == nullptr) return InvalidArgument("slice takes a count");
  ASSIGN_OR_RETURN(const Int slices, ToInt(*p[0], "the count of slice"));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  if (slices == 0) return InvalidArgument("slice cannot make 0 slices");
  std::vector<Value> out;
  auto next = items.begin();
  for (Int i = 0; i < slices; ++i) {
    const Int n = static_cast<Int>(items.size());
    const auto end = next + static_cast<ptrdiff_t>(n / slices + (i < n % slices ? 1 : 0));
    std::vector<Value> slice(next, end);
    next = end;
    if (p[1] != nullptr && !p[1]->is_none() && i >= n % slices) slice.push_back(*p[1]);
    ASSIGN_OR_RETURN(Value list, runtime.MakeList(std::move(slice)));
    out.push_back(std::move(list));
  }
  return runtime.MakeIterator(std::move(out));
}

// A pair whose parts have names.
struct Group : Sequence {
  absl::StatusOr<std::optional<Value>> Attribute(Runtime&, std::string_view name) override {
    if (name == "grouper") return std::optional(items[0]);
    if (name == "list") return std::optional(items[1]);
    return std::optional<Value>();
  }
};

absl::StatusOr<Value> GroupBy(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto p,
                   Bind(arguments, "groupby", {"attribute", "default", "case_sensitive"}));
  if (p[0] == nullptr) return InvalidArgument("groupby takes an attribute");
  ASSIGN_OR_RETURN(const Path path, Path::Make(p[0]));
  ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, value));
  std::vector<Value> keys, pairs;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value part, path.Get(runtime, item, p[1]));
    ASSIGN_OR_RETURN(Value key, IgnoreCase(runtime, part, IsTrue(p[2])));
    keys.push_back(key);
    ASSIGN_OR_RETURN(Value pair, runtime.MakeTuple({key, part, item}));
    pairs.push_back(std::move(pair));
  }
  ASSIGN_OR_RETURN(const std::vector<Value> sorted, SortBy(runtime, pairs, keys, false));
  std::vector<Value> groups;
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    const auto part = [&](size_t i, size_t j) { return sorted[i].As<Sequence>()->items[j]; };
    std::vector<Value> members;
    for (bool same = true; same;) {
      members.push_back(part(end++, 2));
      if (end == sorted.size()) break;
      ASSIGN_OR_RETURN(same, Equals(runtime, part(begin, 0), part(end, 0)));
    }
    ASSIGN_OR_RETURN(const Value list, runtime.MakeList(std::move(members)));
    // Charged, and its depth checked, as the pair that it is.
    ASSIGN_OR_RETURN(const Value pair, runtime.MakeTuple({part(begin, 1), list}));
    auto* group = runtime.New<Group>();
    group->flavor = Sequence::kTuple;
    group->items = pair.As<Sequence>()->items;
    group->depth = pair.object()->depth;
    groups.push_back(Value::Of(group));
  }
  return runtime.MakeList(std::move(groups));
}

constexpr FilterEntry kFilters[] = {
    {"batch", Batch},
    {"count", Count},
    {"d", Default},
    {"default", Default},
    {"dictsort", DictSort},
    {"first", First},
    {"groupby", GroupBy},
    {"items", Items},
    {"join", JoinItems},
    {"last", Last},
    {"length", Count},
    {"list", ToList},
    {"map", Map},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"reject", Select<false, false>},
    {"rejectattr", Select<false, true>},
    {"reverse", Reverse},
    {"select", Select<true, false>},
    {"selectattr", Select<true, true>},
    {"slice", SliceItems},
    {"sort", Sort},
    {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

std::span<const FilterEntry> SequenceFilters() { return kFilters; }

}  // namespace trireme::jinja
