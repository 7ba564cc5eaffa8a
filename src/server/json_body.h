// A JSON object that a client sent: fields by name, of the types that are expected. The first thing
// that is wrong is kept, with the field's name.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "nlohmann/json.hpp"

namespace trireme {

// What a client sent as JSON, of so many levels at most. INVALID_ARGUMENT saying what it is
// instead.
inline constexpr int kMostJsonDepth = 64;
absl::StatusOr<nlohmann::ordered_json> ParseShallowJson(const std::string& text);

class JsonBody {
 public:
  using Json = nlohmann::ordered_json;

  // INVALID_ARGUMENT unless it is an object.
  static absl::StatusOr<JsonBody> Parse(const std::string& text);

  // Unset where the field is absent or null, or of another type, which is then the status.
  std::optional<std::string> Text(const char* field);
  std::optional<double> Number(const char* field);
  std::optional<int64_t> Whole(const char* field, int64_t least, int64_t most);
  std::optional<int32_t> Int(const char* field);
  std::optional<bool> Bool(const char* field);
  std::vector<std::string> TextOrTexts(const char* field);
  std::vector<int32_t> Ints(const char* field);
  std::map<int32_t, float> NumbersById(const char* field);  // {"5": -1.5}
  const Json* Find(const char* field) const;                // null: absent or null

  // The field is known, and would change the answer: only these values of it do nothing.
  void RefuseUnless(const char* field, const std::vector<Json>& harmless);

  // As one line, `field` being left out, of now on.
  std::string TextWithout(const char* field);

  void Fail(const char* field, const std::string& what);  // "FIELD: what"
  const absl::Status& status() const { return status_; }
  const std::string& param() const { return param_; }
  absl::Status StatusAndParam(std::string* param) const;  // `param` is left where all is well

 private:
  explicit JsonBody(Json json) : json_(std::move(json)) {}

  Json json_;
  absl::Status status_;
  std::string param_;
};

}  // namespace trireme
