#include "text/jinja/print.h"

#include "text/jinja/numbers.h"
#include "text/jinja/strings.h"

namespace trireme::jinja {
namespace {

// Repr of nested values, on one string. A namespace may hold itself, so that depth is counted.
class Printer {
 public:
  explicit Printer(Runtime& runtime) : runtime_(runtime) {}

  absl::Status Print(const Value& value, int depth) {
    const size_t before = out.size();
    RETURN_IF_ERROR(runtime_.Spend());
    if (depth > kMaxValueDepth) return ResourceExhausted("a value is nested too deep to print");
    if (value.is_undefined()) {
      out += "Undefined";
    } else if (value.is_none()) {
      out += "None";
    } else if (value.is_bool()) {
      out += value.boolean() ? "True" : "False";
    } else if (value.is_int()) {
      out += IntRepr(*value.AsInt());
    } else if (value.is_float()) {
      out += FloatRepr(value.real());
    } else if (value.is_string()) {
      const std::string quoted = Repr(value.text());
      out += value.is_markup() ? StrCat("Markup(", quoted, ")") : quoted;
    } else if (const auto* sequence = value.As<Sequence>()) {
      return PrintSequence(*sequence, depth);
    } else if (const auto* dict = value.As<Dict>()) {
      return PrintDict(*dict, depth);
    } else if (const auto* space = value.As<Namespace>()) {
      out += "<Namespace ";
      RETURN_IF_ERROR(PrintDict(space->attributes, depth));
      out += ">";
    } else {
      return InvalidArgument("a ", value.TypeName(), " cannot be printed");
    }
    return runtime_.Charge(out.size() - before);
  }

  std::string out;

 private:
  absl::Status PrintSequence(const Sequence& sequence, int depth) {
    using Flavor = Sequence::Flavor;
    if (sequence.flavor == Flavor::kIterator) {
      return InvalidArgument("an iterator cannot be printed: use the filter list");
    }
    if (sequence.flavor == Flavor::kRange) {
      out += StrCat("range(", IntRepr(sequence.start), ", ", IntRepr(sequence.stop));
      if (sequence.step != 1) out += ", " + IntRepr(sequence.step);
      out += ")";
      return absl::OkStatus();
    }
    const bool view = !sequence.indexable();
    const bool tuple = sequence.flavor == Flavor::kTuple;
    if (view) out += sequence.TypeName() + "(";
    out += tuple ? '(' : '[';
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) out += ", ";
      RETURN_IF_ERROR(Print(sequence.items[i], depth + 1));
    }
    if (tuple && sequence.items.size() == 1) out += ',';
    out += tuple ? ')' : ']';
    if (view) out += ")";
    return absl::OkStatus();
  }

  absl::Status PrintDict(const Dict& dict, int depth) {
    out += '{';
    for (const auto& [key, value] : dict.entries) {
      if (&key != &dict.entries.front().first) out += ", ";
      RETURN_IF_ERROR(Print(key, depth + 1));
      out += ": ";
      RETURN_IF_ERROR(Print(value, depth + 1));
    }
    out += '}';
    return absl::OkStatus();
  }

  Runtime& runtime_;
};

}  // namespace

absl::StatusOr<std::string> Repr(Runtime& runtime, const Value& value) {
  Printer printer(runtime);
  RETURN_IF_ERROR(printer.Print(value, 0));
  return std::move(printer.out);
}

absl::StatusOr<std::string> Str(Runtime& runtime, const Value& value) {
  if (value.is_undefined()) return "";
  if (!value.is_string()) return Repr(runtime, value);
  RETURN_IF_ERROR(runtime.Charge(value.text().size()));
  return value.text();
}

}  // namespace trireme::jinja
