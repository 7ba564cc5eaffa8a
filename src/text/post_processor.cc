#include "text/post_processor.h"

#include <map>
#include <string>
#include <utility>

#include "text/quoted.h"

namespace trireme::text {
namespace {

constexpr const char* kWhere = "post_processor \"TemplateProcessing\"";

using SpecialTokens = std::map<std::string, std::vector<int32_t>>;  // name -> ids

absl::StatusOr<SpecialTokens> ReadSpecialTokens(const nlohmann::json& json, int32_t end_id) {
  SpecialTokens tokens;
  for (const auto& [name, token] : json.items()) {
    Fields fields(token, StrCat(kWhere, ": \"special_tokens\": ", Quoted(name)));
    fields.String("id");
    const nlohmann::json& ids = fields.Array("ids");
    const nlohmann::json& texts = fields.Array("tokens");
    if (ids.size() != texts.size()) fields.Fail("\"ids\" and \"tokens\" differ in length");
    RETURN_IF_ERROR(fields.Done());
    for (const nlohmann::json& id : ids) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(end_id)) {
        return InvalidArgument("tokenizer.json: ", fields.where(),
                               ": \"ids\" must be integers from 0 to ", end_id - 1);
      }
      tokens[name].push_back(id.get<int32_t>());
    }
  }
  return tokens;
}

// Appends the template's ids; `text` stands for the sequence A, and B is `second`, if allowed.
absl::Status ReadPieces(const nlohmann::json& pieces, const char* key, bool allow_second,
                        const SpecialTokens& tokens, int32_t text, std::vector<int32_t>* out) {
  for (const nlohmann::json& piece : pieces) {
    const bool is_text = piece.is_object() && piece.contains("Sequence");
    Fields fields(piece, StrCat(kWhere, ": \"", key, "\""));
    const nlohmann::json& content = fields.Object(is_text ? "Sequence" : "SpecialToken");
    RETURN_IF_ERROR(fields.Done());
    Fields inner(content, fields.where());
    const std::string id = inner.String("id");
    inner.Int("type_id");
    if (!is_text) {
      const auto it = tokens.find(id);
      if (it == tokens.end()) {
        inner.Fail(StrCat(Quoted(id), " is not in \"special_tokens\""));
      } else {
        out->insert(out->end(), it->second.begin(), it->second.end());
      }
    } else if (id == "A") {
      out->push_back(text);
    } else if (id != "B" || !allow_second) {
      inner.Fail(StrCat("unknown sequence ", Quoted(id)));
    }
    RETURN_IF_ERROR(inner.Done());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::FromJson(const nlohmann::json& json, int32_t end_id) {
  PostProcessor processor;
  bool has_template = false;
  RETURN_IF_ERROR(FlattenSequence(
      json, "post_processor", "processors",
      [&](const nlohmann::json& leaf, const std::string& type) -> absl::Status {
        if (type == "ByteLevel") {  // adjusts offsets, which are not computed here
          Fields fields(leaf, "post_processor \"ByteLevel\"");
          fields.String("type");
          fields.Bool("add_prefix_space");
          fields.Bool("trim_offsets");
          fields.Bool("use_regex", true);
          return fields.Done();
        }
        if (type != "TemplateProcessing") return Unsupported("post_processor", type);
        if (has_template) {
          return Unimplemented("tokenizer.json: ", kWhere, ": more than one is not supported");
        }
        has_template = true;
        return processor.ReadTemplate(leaf, end_id);
      }));
  return processor;
}

absl::Status PostProcessor::ReadTemplate(const nlohmann::json& json, int32_t end_id) {
  Fields fields(json, kWhere);
  fields.String("type");
  const nlohmann::json& single = fields.Array("single");
  const nlohmann::json& pair = fields.Array("pair");
  const nlohmann::json& special_tokens = fields.Object("special_tokens");
  RETURN_IF_ERROR(fields.Done());
  ASSIGN_OR_RETURN(const SpecialTokens tokens, ReadSpecialTokens(special_tokens, end_id));
  template_.clear();
  RETURN_IF_ERROR(ReadPieces(single, "single", false, tokens, kText, &template_));
  std::vector<int32_t> checked;  // a text is never encoded as one of a pair here
  return ReadPieces(pair, "pair", true, tokens, kText, &checked);
}

std::vector<int32_t> PostProcessor::Apply(std::vector<int32_t> ids, bool add_special_tokens) const {
  if (template_.size() == 1 && template_[0] == kText) return ids;
  std::vector<int32_t> out;
  out.reserve(ids.size() + template_.size());
  for (int32_t id : template_) {
    if (id == kText) {
      out.insert(out.end(), ids.begin(), ids.end());
    } else if (add_special_tokens) {
      out.push_back(id);
    }
  }
  return out;
}

}  // namespace trireme::text
