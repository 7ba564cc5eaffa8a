#include "text/added_tokens.h"

#include <utility>

#include "text/quoted.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme::text {
namespace {

constexpr size_t kMaxTokenBytes = 1024;  // looking for a token costs this much per place at worst

uint64_t Edge(int32_t node, char byte) {
  return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
}

bool WordBefore(std::string_view text, size_t pos) {
  return pos > 0 && IsWordCharacter(DecodeBefore(text, &pos));
}

bool WordAt(std::string_view text, size_t pos) {
  return pos < text.size() && IsWordCharacter(DecodeAt(text, &pos));
}

size_t SkipSpaceBefore(std::string_view text, size_t pos) {
  for (size_t p = pos; p > 0 && IsWhitespace(DecodeBefore(text, &p));) pos = p;
  return pos;
}

size_t SkipSpaceAt(std::string_view text, size_t pos) {
  for (size_t p = pos; p < text.size() && IsWhitespace(DecodeAt(text, &p));) pos = p;
  return pos;
}

}  // namespace

void Trie::Add(std::string_view text, int32_t value) {
  int32_t node = 0;
  starts_[static_cast<uint8_t>(text.front())] = true;
  for (char byte : text) {
    const auto [it, inserted] =
        edges_.try_emplace(Edge(node, byte), static_cast<int32_t>(values_.size()));
    if (inserted) values_.push_back(-1);
    node = it->second;
  }
  values_[node] = value;
}

bool Trie::Has(std::string_view text) const {
  int32_t node = 0;
  for (char byte : text) {
    const auto it = edges_.find(Edge(node, byte));
    if (it == edges_.end()) return false;
    node = it->second;
  }
  return values_[node] >= 0;
}

int32_t Trie::Find(std::string_view text, size_t from, size_t* begin, size_t* end) const {
  for (size_t at = from; at < text.size(); ++at) {
    if (!starts_[static_cast<uint8_t>(text[at])]) continue;
    int32_t found = -1, node = 0;
    for (size_t pos = at; pos < text.size(); ++pos) {
      const auto it = edges_.find(Edge(node, text[pos]));
      if (it == edges_.end()) break;
      node = it->second;
      if (values_[node] < 0) continue;
      found = values_[node];
      *begin = at;
      *end = pos + 1;
    }
    if (found >= 0) return found;
  }
  return -1;
}

absl::StatusOr<AddedTokens> AddedTokens::FromJson(const nlohmann::json& json, const Bpe& bpe,
                                                  const Normalizer& normalizer) {
  AddedTokens added;
  if (json.is_null()) return added;
  if (!json.is_array()) return InvalidArgument("tokenizer.json: \"added_tokens\" must be an array");
  int32_t next_id = bpe.n_tokens();
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string where = StrCat("added_tokens[", i, "]");
    Fields fields(json[i], where);
    const int64_t id = fields.Int("id");
    AddedToken token{.id = 0,
                     .content = fields.String("content"),
                     .single_word = fields.Bool("single_word"),
                     .lstrip = fields.Bool("lstrip"),
                     .rstrip = fields.Bool("rstrip"),
                     .normalized = fields.Bool("normalized"),
                     .special = fields.Bool("special")};
    if (token.content.empty()) fields.Fail("\"content\" is empty");
    RETURN_IF_ERROR(fields.Done());
    const std::optional<int32_t> known = bpe.TokenToId(token.content);
    token.id = known ? *known : next_id++;
    if (id != token.id) {
      return InvalidArgument("tokenizer.json: ", where, ": ", Quoted(token.content), " has id ", id,
                             known ? " but the vocabulary gives it " : " but the next free id is ",
                             token.id);
    }
    token.pattern = token.content;
    if (token.normalized) {
      ASSIGN_OR_RETURN(token.pattern, normalizer.Apply(token.content));
    }
    if (absl::Status status = added.Add(std::move(token)); !status.ok()) {
      return Annotate(status, StrCat("tokenizer.json: ", where));
    }
  }
  return added;
}

absl::Status AddedTokens::Add(AddedToken token) {
  if (token.pattern.empty()) {
    return InvalidArgument(Quoted(token.content), " is empty once normalized");
  }
  if (token.pattern.size() > kMaxTokenBytes) {
    return InvalidArgument("\"content\" is longer than ", kMaxTokenBytes, " bytes");
  }
  Trie& trie = token.normalized ? normalized_ : raw_;
  if (trie.Has(token.pattern)) {
    return InvalidArgument(Quoted(token.content), " is there twice");
  }
  trie.Add(token.pattern, static_cast<int32_t>(tokens_.size()));
  tokens_.push_back(std::move(token));
  return absl::OkStatus();
}

absl::StatusOr<Pieces> AddedTokens::Cut(std::string_view text, const Normalizer& normalizer) const {
  Pieces raw;
  CutOne(raw_, text, 0, &raw.pieces);
  Pieces out;
  if (normalizer.empty()) out.text = text;
  for (const Pieces::Piece& piece : raw.pieces) {
    if (piece.id != Pieces::kText) {
      out.pieces.push_back(piece);
      continue;
    }
    const std::string_view original = text.substr(piece.begin, piece.end - piece.begin);
    if (normalizer.empty()) {
      CutOne(normalized_, original, piece.begin, &out.pieces);
      continue;
    }
    ASSIGN_OR_RETURN(const std::string normalized, normalizer.Apply(std::string(original)));
    CutOne(normalized_, normalized, out.text.size(), &out.pieces);
    out.text += normalized;
  }
  return out;
}

void AddedTokens::CutOne(const Trie& trie, std::string_view text, size_t shift,
                         std::vector<Pieces::Piece>* pieces) const {
  size_t done = 0;  // up to here the text is cut
  size_t from = 0;  // where the next search starts
  size_t begin, end;
  for (int32_t found; !trie.empty() && (found = trie.Find(text, from, &begin, &end)) >= 0;) {
    const AddedToken& token = tokens_[found];
    from = end;
    if (token.single_word && (WordBefore(text, begin) || WordAt(text, end))) continue;
    if (token.lstrip) begin = SkipSpaceBefore(text, begin);
    if (token.rstrip) end = SkipSpaceAt(text, end);
    if (done < begin) pieces->push_back({shift + done, shift + begin});
    pieces->push_back({shift + begin, shift + end, token.id});
    done = end;
  }
  if (done < text.size()) pieces->push_back({shift + done, shift + text.size()});
}

}  // namespace trireme::text
