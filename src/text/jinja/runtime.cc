#include "text/jinja/runtime.h"

#include <algorithm>

namespace trireme::jinja {

absl::Status Runtime::Spend(int64_t steps) {
  steps_ += steps;
  if (steps_ <= limits_.steps) return absl::OkStatus();
  return ResourceExhausted("the template takes more than ", limits_.steps, " steps");
}

absl::Status Runtime::SpendOn(const Value& value) {
  return value.is_string() ? Spend(static_cast<int64_t>(value.text().size() / 256))
                           : absl::OkStatus();
}

absl::Status Runtime::Charge(size_t bytes) {
  if (static_cast<uint64_t>(limits_.bytes - bytes_) < bytes) {
    return ResourceExhausted("the template makes more than ", limits_.bytes, " bytes");
  }
  bytes_ += static_cast<int64_t>(bytes);
  return absl::OkStatus();
}

absl::Status Runtime::SetDepth(Object* object, int depth_of_items) {
  object->depth = 1 + depth_of_items;
  if (object->depth <= kMaxValueDepth) return absl::OkStatus();
  return ResourceExhausted("a value is nested more than ", kMaxValueDepth, " deep");
}

absl::StatusOr<Value> Runtime::MakeText(std::string bytes, bool markup) {
  RETURN_IF_ERROR(Charge(bytes.size()));
  return Value::String(std::move(bytes), markup);
}

absl::StatusOr<Value> Runtime::MakeSequence(Sequence::Flavor flavor, std::vector<Value> items) {
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(items.size())));
  RETURN_IF_ERROR(Charge(sizeof(Sequence) + items.size() * sizeof(Value)));
  auto* sequence = New<Sequence>();
  sequence->flavor = flavor;
  int depth = 0;
  for (const Value& item : items) {
    if (item.is_object()) depth = std::max(depth, item.object()->depth);
  }
  sequence->items = std::move(items);
  RETURN_IF_ERROR(SetDepth(sequence, depth));
  return Value::Of(sequence);
}

absl::StatusOr<Value> Runtime::MakeList(std::vector<Value> items) {
  return MakeSequence(Sequence::kList, std::move(items));
}
absl::StatusOr<Value> Runtime::MakeTuple(std::vector<Value> items) {
  return MakeSequence(Sequence::kTuple, std::move(items));
}
absl::StatusOr<Value> Runtime::MakeIterator(std::vector<Value> items) {
  return MakeSequence(Sequence::kIterator, std::move(items));
}

absl::StatusOr<Value> Runtime::MakeDict(std::vector<Dict::Entry> entries) {
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(entries.size())));
  RETURN_IF_ERROR(Charge(sizeof(Dict) + 2 * entries.size() * sizeof(Dict::Entry)));
  auto* dict = New<Dict>();
  int depth = 0;
  for (auto& [key, value] : entries) {
    if (!IsHashable(key)) return InvalidArgument("a ", key.TypeName(), " cannot be a key");
    // Keys that are no strings are looked for one by one.
    if (!key.is_string()) RETURN_IF_ERROR(Spend(static_cast<int64_t>(dict->entries.size())));
    for (const Value* part : {&key, &value}) {
      if (part->is_object()) depth = std::max(depth, part->object()->depth);
    }
    dict->Set(key, std::move(value));
  }
  RETURN_IF_ERROR(SetDepth(dict, depth));
  return Value::Of(dict);
}

absl::StatusOr<Value> Runtime::MakeFunction(Function::Body body) {
  RETURN_IF_ERROR(Charge(sizeof(Function)));
  return Value::Of(New<Function>(std::move(body)));
}

absl::StatusOr<std::vector<const Value*>> Bind(const Arguments& arguments,
                                               std::string_view function,
                                               std::initializer_list<std::string_view> parameters) {
  std::vector<const Value*> bound(parameters.size(), nullptr);
  if (arguments.positional.size() > parameters.size()) {
    return InvalidArgument(function, " takes at most ", parameters.size(), " arguments, not ",
                           arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto it = std::find(parameters.begin(), parameters.end(), name);
    if (it == parameters.end()) return InvalidArgument(function, " takes no argument ", name);
    const Value*& slot = bound[static_cast<size_t>(it - parameters.begin())];
    if (slot != nullptr) return InvalidArgument(function, " is given ", name, " twice");
    slot = &value;
  }
  return bound;
}

}  // namespace trireme::jinja
