// The "post_processor" of tokenizer.json: adds the special tokens that a model expects around a
// text.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "text/json_fields.h"

namespace trireme::text {

class PostProcessor {
 public:
  // Sequence, TemplateProcessing (at most one), ByteLevel; null adds nothing. Another type is
  // UNIMPLEMENTED. Ids must be in [0, end_id).
  static absl::StatusOr<PostProcessor> FromJson(const nlohmann::json& json, int32_t end_id);

  // `ids` of the text -> ids of the whole.
  std::vector<int32_t> Apply(std::vector<int32_t> ids, bool add_special_tokens) const;

 private:
  static constexpr int32_t kText = -1;  // in template_: here stands the text

  absl::Status ReadTemplate(const nlohmann::json& json, int32_t end_id);

  std::vector<int32_t> template_ = {kText};
};

}  // namespace trireme::text
