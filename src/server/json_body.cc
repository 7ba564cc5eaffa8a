#include "server/json_body.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace trireme {
namespace {

// What a client reads of a value that is not what it should be; never a prompt.
std::string Brief(const nlohmann::ordered_json& value) {
  if (value.is_object() || value.is_array() || value.is_string()) {
    return value.is_string() ? "a string" : value.is_array() ? "an array" : "an object";
  }
  return value.dump();
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> ParseShallowJson(const std::string& text) {
  using Json = nlohmann::ordered_json;
  bool too_deep = false;
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMostJsonDepth;
    return !too_deep;
  };
  Json json = Json::parse(text, shallow, /*allow_exceptions=*/false);
  if (too_deep) return InvalidArgument("JSON more than ", kMostJsonDepth, " levels deep");
  if (json.is_discarded()) return InvalidArgument("not JSON in UTF-8");
  return json;
}

absl::StatusOr<JsonBody> JsonBody::Parse(const std::string& text) {
  auto json = ParseShallowJson(text);
  if (!json.ok()) return InvalidArgument("the body is ", Message(json.status()));
  if (!json->is_object()) {
    return InvalidArgument("the body is ", Brief(*json), ", not a JSON object");
  }
  return JsonBody(*std::move(json));
}

const JsonBody::Json* JsonBody::Find(const char* field) const {
  auto it = json_.find(field);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

void JsonBody::Fail(const char* field, const std::string& what) {
  if (!status_.ok()) return;
  param_ = field;
  status_ = InvalidArgument(field, ": ", what);
}

std::optional<std::string> JsonBody::Text(const char* field) {
  const Json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  Fail(field, "expected a string, not " + Brief(*value));
  return std::nullopt;
}

std::optional<double> JsonBody::Number(const char* field) {
  const Json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return value->get<double>();
  Fail(field, "expected a number, not " + Brief(*value));
  return std::nullopt;
}

std::optional<int64_t> JsonBody::Whole(const char* field, int64_t least, int64_t most) {
  const Json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_unsigned() ? value->get<uint64_t>() <= uint64_t(INT64_MAX)
                                                : value->is_number_integer();
  if (fits && value->get<int64_t>() >= least && value->get<int64_t>() <= most) {
    return value->get<int64_t>();
  }
  Fail(field,
       StrCat("expected a whole number from ", least, " to ", most, ", not ", Brief(*value)));
  return std::nullopt;
}

std::optional<int32_t> JsonBody::Int(const char* field) {
  const auto value =
      Whole(field, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max());
  if (!value.has_value()) return std::nullopt;
  return static_cast<int32_t>(*value);
}

std::optional<bool> JsonBody::Bool(const char* field) {
  const Json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  Fail(field, "expected true or false, not " + Brief(*value));
  return std::nullopt;
}

std::vector<std::string> JsonBody::TextOrTexts(const char* field) {
  const Json* value = Find(field);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (value->is_array() && std::ranges::all_of(*value, [](auto& v) { return v.is_string(); })) {
    return value->get<std::vector<std::string>>();
  }
  Fail(field, "expected a string or an array of strings");
  return {};
}

std::vector<int32_t> JsonBody::Ints(const char* field) {
  const Json* value = Find(field);
  if (value == nullptr) return {};
  const auto fits = [](const Json& v) {
    return v.is_number_integer() && v.get<int64_t>() >= std::numeric_limits<int32_t>::min() &&
           v.get<int64_t>() <= std::numeric_limits<int32_t>::max();
  };
  if (value->is_array() && std::ranges::all_of(*value, fits)) {
    return value->get<std::vector<int32_t>>();
  }
  Fail(field, "expected an array of token ids");
  return {};
}

std::map<int32_t, float> JsonBody::NumbersById(const char* field) {
  const Json* value = Find(field);
  if (value == nullptr) return {};
  std::map<int32_t, float> numbers;
  bool fits = value->is_object();
  for (auto it = value->begin(); fits && it != value->end(); ++it) {
    int32_t id = 0;
    fits = ParseNumber(it.key(), &id) && it->is_number();
    if (fits) numbers[id] = it->get<float>();
  }
  if (!fits) Fail(field, "expected an object of token ids and numbers");
  return numbers;
}

void JsonBody::RefuseUnless(const char* field, const std::vector<Json>& harmless) {
  const Json* value = Find(field);
  if (value == nullptr || std::ranges::find(harmless, *value) != harmless.end()) return;
  std::string what = "is not supported";
  for (const Json& h : harmless)
    what += (&h == harmless.data() ? " unless it is " : " or ") + h.dump();
  Fail(field, harmless.empty() ? what + ": leave it out" : what);
}

std::string JsonBody::TextWithout(const char* field) {
  json_.erase(field);
  return json_.dump();
}

absl::Status JsonBody::StatusAndParam(std::string* param) const {
  if (!status_.ok()) *param = param_;
  return status_;
}

}  // namespace trireme
