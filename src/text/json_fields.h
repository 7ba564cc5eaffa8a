// The keys of one object of tokenizer.json, each read once by name and type.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace trireme::text {

inline constexpr int kMaxNesting = 8;  // of Sequences in Sequences

// Remembers the first thing that is wrong, so that a reader takes all its fields and asks once:
//   Fields fields(json, "normalizer \"Prepend\"");
//   std::string prepend = fields.String("prepend");
//   RETURN_IF_ERROR(fields.Done());
// Errors are INVALID_ARGUMENT: tokenizer.json: <where>: "<key>" …
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where);

  // A key that must be there.
  std::string String(const char* key);
  bool Bool(const char* key);
  int64_t Int(const char* key);
  char32_t Char(const char* key);  // a string of one character
  const nlohmann::json& Object(const char* key);
  const nlohmann::json& Array(const char* key);
  // A key that may be absent or null.
  std::string String(const char* key, std::string_view otherwise);
  bool Bool(const char* key, bool otherwise);
  bool Has(const char* key) const;             // present and not null
  const nlohmann::json& Any(const char* key);  // null where absent

  void Fail(std::string_view what);  // "<where>: <what>"
  // The first error; an error for a key that nobody asked for.
  absl::Status Done();
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* Find(const char* key, bool required, const char* type);

  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string_view> seen_;
  absl::Status status_;
};

// A component's "type"; INVALID_ARGUMENT where `json` is not an object with one.
absl::StatusOr<std::string> TypeOf(const nlohmann::json& json, std::string_view kind);

// UNIMPLEMENTED: tokenizer.json: normalizer "Precompiled" is not supported
absl::Status Unsupported(std::string_view kind, std::string_view type);

// Calls add(leaf, type) for a component and for each member of its Sequences, in order; `members`
// is the key under which a Sequence of this kind keeps them. null has no leaves.
absl::Status FlattenSequence(
    const nlohmann::json& json, std::string_view kind, const char* members,
    const std::function<absl::Status(const nlohmann::json&, const std::string&)>& add,
    int depth = 0);

}  // namespace trireme::text
