#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "text/quoted.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

namespace trireme {
namespace {

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return InvalidArgument("tokenizer.json: not valid JSON at byte ", error.byte);
  } catch (const nlohmann::json::exception&) {
    return InvalidArgument("tokenizer.json: not valid JSON: a number is out of range");
  }
}

absl::Status RefuseUnlessNull(const nlohmann::json& json, const char* key) {
  if (json.is_null()) return absl::OkStatus();
  return Unimplemented("tokenizer.json: \"", key, "\" is not supported; it must be null");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(
    std::string_view tokenizer_json) {
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(tokenizer_json));
  text::Fields fields(json, "top level");
  const std::string version = fields.String("version", "1.0");
  const nlohmann::json& truncation = fields.Any("truncation");
  const nlohmann::json& padding = fields.Any("padding");
  const nlohmann::json& added_tokens = fields.Any("added_tokens");
  const nlohmann::json& normalizer = fields.Any("normalizer");
  const nlohmann::json& pre_tokenizer = fields.Any("pre_tokenizer");
  const nlohmann::json& post_processor = fields.Any("post_processor");
  const nlohmann::json& decoder = fields.Any("decoder");
  const nlohmann::json& model = fields.Object("model");
  RETURN_IF_ERROR(fields.Done());
  if (version != "1.0") {
    return Unimplemented("tokenizer.json: version ", text::Quoted(version),
                         " is not supported; 1.0 is");
  }
  RETURN_IF_ERROR(RefuseUnlessNull(truncation, "truncation"));
  RETURN_IF_ERROR(RefuseUnlessNull(padding, "padding"));

  auto parts = std::make_unique<Parts>();
  ASSIGN_OR_RETURN(parts->normalizer, text::Normalizer::FromJson(normalizer));
  ASSIGN_OR_RETURN(parts->pre_tokenizer, text::PreTokenizer::FromJson(pre_tokenizer));
  if (parts->pre_tokenizer.asks_for_start() && !parts->normalizer.empty()) {
    return Unimplemented(
        "tokenizer.json: pre_tokenizer \"Metaspace\" with prepend_scheme \"first\" behind a "
        "normalizer is not supported");
  }
  ASSIGN_OR_RETURN(parts->decoder, text::Decoder::FromJson(decoder));
  ASSIGN_OR_RETURN(parts->model, text::Bpe::FromJson(model));
  ASSIGN_OR_RETURN(parts->added_tokens,
                   text::AddedTokens::FromJson(added_tokens, *parts->model, parts->normalizer));
  parts->vocab_size = parts->model->end_id();
  const std::vector<text::AddedToken>& added = parts->added_tokens.tokens();
  for (const text::AddedToken& token : added) {
    // As Hugging Face has it, a token is decoded from its normalized form, and skipped if that is
    // the content of a special token.
    const bool skipped = std::any_of(added.begin(), added.end(), [&](const text::AddedToken& t) {
      return t.special && t.content == token.pattern;
    });
    parts->added[token.id] = {token.content, token.pattern, token.special, skipped};
    parts->vocab_size = std::max(parts->vocab_size, token.id + 1);
  }
  ASSIGN_OR_RETURN(parts->post_processor,
                   text::PostProcessor::FromJson(post_processor, parts->vocab_size));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens) const {
  if (const size_t at = text::FindInvalidUtf8(text); at != std::string_view::npos) {
    return InvalidArgument("the text is not valid UTF-8 at byte ", at);
  }
  ASSIGN_OR_RETURN(text::Pieces pieces, parts_->added_tokens.Cut(text, parts_->normalizer));
  RETURN_IF_ERROR(parts_->pre_tokenizer.Apply(&pieces));
  std::vector<int32_t> ids;
  ids.reserve(pieces.pieces.size());
  text::Bpe::Scratch scratch;
  for (const text::Pieces::Piece& piece : pieces.pieces) {
    if (piece.id != text::Pieces::kText) {
      ids.push_back(piece.id);
    } else {
      RETURN_IF_ERROR(parts_->model->Encode(pieces.View(piece), &scratch, &ids));
    }
  }
  return parts_->post_processor.Apply(std::move(ids), add_special_tokens);
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string out;
  text::DecodeStream stream(&parts_->decoder);
  for (int32_t id : ids) {
    const std::string* token = TokenForDecoding(id, skip_special_tokens);
    if (token != nullptr) stream.Push(*token, &out);
  }
  stream.Finish(&out);
  return out;
}

const std::string* Tokenizer::TokenForDecoding(int32_t id, bool skip_special_tokens) const {
  const auto it = parts_->added.find(id);
  if (it == parts_->added.end()) return parts_->model->IdToToken(id);
  return skip_special_tokens && it->second.skipped ? nullptr : &it->second.decoded;
}

int32_t Tokenizer::vocab_size() const { return parts_->vocab_size; }

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  if (const std::optional<int32_t> id = parts_->model->TokenToId(token)) return id;
  for (const auto& [id, added] : parts_->added) {
    if (added.content == token) return id;
  }
  return std::nullopt;
}

std::string Tokenizer::IdToToken(int32_t id) const {
  const auto it = parts_->added.find(id);
  if (it != parts_->added.end()) return it->second.content;
  const std::string* token = parts_->model->IdToToken(id);
  return token == nullptr ? "" : *token;
}

std::string Tokenizer::TokenBytes(int32_t id) const {
  const std::string* token = TokenForDecoding(id, /*skip_special_tokens=*/false);
  return token == nullptr ? "" : parts_->decoder.BytesOf(*token);
}

bool Tokenizer::IsSpecial(int32_t id) const {
  const auto it = parts_->added.find(id);
  return it != parts_->added.end() && it->second.special;
}

}  // namespace trireme
