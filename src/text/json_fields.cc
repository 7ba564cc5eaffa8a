#include "text/json_fields.h"

#include <algorithm>

#include "text/quoted.h"
#include "text/utf8.h"

namespace trireme::text {
namespace {

const nlohmann::json& Null() {
  static const nlohmann::json* null = new nlohmann::json;
  return *null;
}

}  // namespace

Fields::Fields(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object_.is_object()) Fail("must be an object");
}

void Fields::Fail(std::string_view what) {
  if (status_.ok()) status_ = InvalidArgument("tokenizer.json: ", where_, ": ", what);
}

const nlohmann::json* Fields::Find(const char* key, bool required, const char* type) {
  seen_.push_back(key);
  if (object_.is_object()) {
    if (auto it = object_.find(key); it != object_.end() && (required || !it->is_null())) {
      return &*it;
    }
  }
  if (required) Fail(StrCat("\"", key, "\" is missing; it must be ", type));
  return nullptr;
}

std::string Fields::String(const char* key) {
  const nlohmann::json* value = Find(key, true, "a string");
  if (value == nullptr) return {};
  if (value->is_string()) return value->get<std::string>();
  Fail(StrCat("\"", key, "\" must be a string"));
  return {};
}

std::string Fields::String(const char* key, std::string_view otherwise) {
  return Has(key) ? String(key) : (seen_.push_back(key), std::string(otherwise));
}

bool Fields::Bool(const char* key) {
  const nlohmann::json* value = Find(key, true, "true or false");
  if (value == nullptr) return false;
  if (value->is_boolean()) return value->get<bool>();
  Fail(StrCat("\"", key, "\" must be true or false"));
  return false;
}

bool Fields::Bool(const char* key, bool otherwise) {
  return Has(key) ? Bool(key) : (seen_.push_back(key), otherwise);
}

int64_t Fields::Int(const char* key) {
  const nlohmann::json* value = Find(key, true, "an integer");
  if (value == nullptr) return 0;
  if (value->is_number_integer() && value->get<int64_t>() >= 0) return value->get<int64_t>();
  Fail(StrCat("\"", key, "\" must be an integer, 0 or more"));
  return 0;
}

char32_t Fields::Char(const char* key) {
  const std::string value = String(key);
  size_t pos = 0;
  const char32_t c = value.empty() ? 0 : DecodeAt(value, &pos);
  if (value.empty() || pos != value.size()) {
    Fail(StrCat("\"", key, "\" must be one character"));
  }
  return c;
}

const nlohmann::json& Fields::Object(const char* key) {
  const nlohmann::json* value = Find(key, true, "an object");
  if (value == nullptr) return Null();
  if (!value->is_object()) Fail(StrCat("\"", key, "\" must be an object"));
  return *value;
}

const nlohmann::json& Fields::Array(const char* key) {
  const nlohmann::json* value = Find(key, true, "an array");
  if (value == nullptr) return Null();
  if (!value->is_array()) Fail(StrCat("\"", key, "\" must be an array"));
  return *value;
}

bool Fields::Has(const char* key) const {
  if (!object_.is_object()) return false;
  auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

const nlohmann::json& Fields::Any(const char* key) {
  const nlohmann::json* value = Find(key, false, "");
  return value == nullptr ? Null() : *value;
}

absl::Status Fields::Done() {
  if (status_.ok() && object_.is_object()) {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(seen_.begin(), seen_.end(), key) == seen_.end()) {
        Fail(StrCat("unknown key ", Quoted(key)));
        break;
      }
    }
  }
  return status_;
}

absl::StatusOr<std::string> TypeOf(const nlohmann::json& json, std::string_view kind) {
  if (json.is_object()) {
    if (auto it = json.find("type"); it != json.end() && it->is_string()) {
      return it->get<std::string>();
    }
  }
  return InvalidArgument("tokenizer.json: ", kind, " must be null or an object with a \"type\"");
}

absl::Status Unsupported(std::string_view kind, std::string_view type) {
  return Unimplemented("tokenizer.json: ", kind, " ", Quoted(type), " is not supported");
}

absl::Status FlattenSequence(
    const nlohmann::json& json, std::string_view kind, const char* members,
    const std::function<absl::Status(const nlohmann::json&, const std::string&)>& add, int depth) {
  if (json.is_null() && depth == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string type, TypeOf(json, kind));
  if (type != "Sequence") return add(json, type);
  if (depth == kMaxNesting) {
    return InvalidArgument("tokenizer.json: ", kind, ": Sequences are nested more than ",
                           kMaxNesting, " deep");
  }
  Fields fields(json, StrCat(kind, " \"Sequence\""));
  fields.String("type");
  const nlohmann::json& list = fields.Array(members);
  RETURN_IF_ERROR(fields.Done());
  for (const nlohmann::json& member : list) {
    RETURN_IF_ERROR(FlattenSequence(member, kind, members, add, depth + 1));
  }
  return absl::OkStatus();
}

}  // namespace trireme::text
