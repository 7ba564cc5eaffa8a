#include "runtime/json.h"

#include <set>

namespace trireme {
namespace {

using nlohmann::json;

constexpr size_t kMaxText = 64 << 20;
constexpr size_t kMaxQuoted = 100;

// Remembers the keys of the objects that are open.
class KeyWatch {
 public:
  bool operator()(int /*depth*/, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
        open_.emplace_back();
        break;
      case json::parse_event_t::object_end:
        open_.pop_back();
        break;
      case json::parse_event_t::key: {
        const std::string& key = parsed.get_ref<const std::string&>();
        if (!open_.back().insert(key).second && duplicate_.empty()) duplicate_ = Quoted(key);
        break;
      }
      default:
        break;
    }
    return true;
  }
  const std::string& duplicate() const { return duplicate_; }

 private:
  std::vector<std::set<std::string>> open_;
  std::string duplicate_;
};

}  // namespace

absl::StatusOr<json> ParseJsonObject(std::string_view text) {
  if (text.size() > kMaxText) {
    return InvalidArgument("expected at most ", kMaxText, " bytes of JSON, found ", text.size());
  }
  KeyWatch keys;
  json root;
  try {
    root = json::parse(text.begin(), text.end(), std::ref(keys));
  } catch (const json::parse_error& error) {
    return InvalidArgument("not valid JSON at byte ", error.byte);
  } catch (const json::exception&) {
    return InvalidArgument("not valid JSON: a number is out of range");
  }
  if (!keys.duplicate().empty()) {
    return InvalidArgument("the key ", keys.duplicate(), " is there twice in one object");
  }
  if (!root.is_object()) return InvalidArgument("expected a JSON object, found ", Describe(root));
  return root;
}

std::string Quoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    if (out.size() > kMaxQuoted) return out + "…\"";
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + "\"";
}

std::string Describe(const json& value) {
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  return value.dump();
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return StrCat("[", Join(shape, ","), "]");
}

}  // namespace trireme
