#include "text/bpe.h"

#include <algorithm>
#include <climits>
#include <cstdio>

#include "text/quoted.h"
#include "text/utf8.h"

namespace trireme::text {
namespace {

constexpr int64_t kMaxTokenId = (1 << 21) - 1;  // bounds the tables by id
constexpr size_t kShortRun = 40;                // symbols; below, scanning beats a heap
constexpr size_t kUncutPiece = 32;              // bytes; pieces up to this are not cut into runs

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

char32_t FirstCharacter(std::string_view text) {
  size_t pos = 0;
  return DecodeAt(text, &pos);
}

char32_t LastCharacter(std::string_view text) {
  size_t pos = text.size();
  return DecodeBefore(text, &pos);
}

std::string ByteToken(int byte) {
  char text[8];
  std::snprintf(text, sizeof(text), "<0x%02X>", byte);
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Bpe>> Bpe::FromJson(const nlohmann::json& json) {
  Fields fields(json, "model");
  // Older files leave the type out of a BPE model.
  const std::string type = fields.String("type", json.contains("merges") ? "BPE" : "");
  if (type.empty()) fields.Fail("\"type\" is missing; it must be a string");
  if (json.is_object() && !type.empty() && type != "BPE") {
    return Unsupported("model", type);
  }
  std::unique_ptr<Bpe> bpe(new Bpe);
  const nlohmann::json& dropout = fields.Any("dropout");
  const nlohmann::json& vocab = fields.Object("vocab");
  const nlohmann::json& merges = fields.Array("merges");
  if (fields.Has("unk_token")) bpe->unk_token_ = fields.String("unk_token");
  fields.Any("unk_token");
  const std::string prefix = fields.String("continuing_subword_prefix", "");
  const std::string suffix = fields.String("end_of_word_suffix", "");
  bpe->fuse_unk_ = fields.Bool("fuse_unk", false);
  bpe->byte_fallback_ = fields.Bool("byte_fallback", false);
  bpe->ignore_merges_ = fields.Bool("ignore_merges", false);
  RETURN_IF_ERROR(fields.Done());
  if (!dropout.is_null() && dropout != 0.0) {
    return Unimplemented("tokenizer.json: model: \"dropout\" is not supported; it must be null");
  }
  if (!prefix.empty() || !suffix.empty()) {
    return Unimplemented("tokenizer.json: model: \"",
                         prefix.empty() ? "end_of_word_suffix" : "continuing_subword_prefix",
                         "\" is not supported; it must be null or empty");
  }
  RETURN_IF_ERROR(bpe->ReadVocab(vocab));
  RETURN_IF_ERROR(bpe->ReadMerges(merges));
  bpe->FindTokensThatMergeWhole();
  return bpe;
}

absl::Status Bpe::ReadVocab(const nlohmann::json& vocab) {
  int64_t largest = -1;
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxTokenId) {
      return InvalidArgument("tokenizer.json: model: \"vocab\": the id of ", Quoted(token),
                             " must be an integer from 0 to ", kMaxTokenId);
    }
    largest = std::max(largest, id.get<int64_t>());
  }
  if (largest < 0) return InvalidArgument("tokenizer.json: model: \"vocab\" is empty");
  tokens_.resize(largest + 1);
  exists_.resize(largest + 1);
  ids_.reserve(vocab.size());
  small_characters_.fill(kNone);
  for (const auto& [token, json_id] : vocab.items()) {
    const auto id = json_id.get<int32_t>();
    if (exists_[id]) {
      return InvalidArgument("tokenizer.json: model: \"vocab\": ", Quoted(tokens_[id]), " and ",
                             Quoted(token), " both have id ", id);
    }
    exists_[id] = true;
    tokens_[id] = token;
    ids_.emplace(View(tokens_[id]), id);
    size_t pos = 0;
    const char32_t c = token.empty() ? 0 : DecodeAt(token, &pos);
    if (token.empty() || pos != token.size()) continue;
    if (c < small_characters_.size()) {
      small_characters_[c] = id;
    } else {
      characters_.emplace(c, id);
    }
  }
  for (int b = 0; b < 256; ++b) {
    bytes_[b] = byte_fallback_ ? TokenToId(ByteToken(b)).value_or(kNone) : kNone;
  }
  if (unk_token_) unk_id_ = TokenToId(*unk_token_).value_or(kNone);
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const nlohmann::json& merges) {
  merges_.reserve(merges.size());
  int32_t rank = 0;
  for (const nlohmann::json& merge : merges) {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;  // the first line of a merges.txt
      const std::vector<std::string> sides = SplitString(text, ' ');
      if (sides.size() != 2) {
        return InvalidArgument("tokenizer.json: model: \"merges\"[", rank,
                               "] must be two tokens with a space between");
      }
      RETURN_IF_ERROR(AddMerge(sides[0], sides[1], rank++));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      RETURN_IF_ERROR(AddMerge(merge[0].get_ref<const std::string&>(),
                               merge[1].get_ref<const std::string&>(), rank++));
    } else {
      return InvalidArgument("tokenizer.json: model: \"merges\"[", rank,
                             "] must be a string or a pair of strings");
    }
  }
  return absl::OkStatus();
}

absl::Status Bpe::AddMerge(const std::string& left, const std::string& right, int32_t rank) {
  const std::string both = left + right;
  int32_t ids[3];
  const std::string* const tokens[3] = {&left, &right, &both};
  for (int i = 0; i < 3; ++i) {
    const std::optional<int32_t> id = TokenToId(*tokens[i]);
    if (!id) {
      return InvalidArgument("tokenizer.json: model: \"merges\"[", rank, "]: ", Quoted(*tokens[i]),
                             " is not in the vocabulary");
    }
    ids[i] = *id;
  }
  merges_[PairKey(ids[0], ids[1])] = {rank, ids[2]};
  if (left.empty() || right.empty()) return absl::OkStatus();  // never in a text
  joined_.insert(PairKey(CharacterId(LastCharacter(left)), CharacterId(FirstCharacter(right))));
  return absl::OkStatus();
}

void Bpe::FindTokensThatMergeWhole() {
  merges_whole_.assign(tokens_.size(), false);
  Scratch scratch;
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (!exists_[id] || tokens_[id].empty()) continue;
    merges_whole_[id] = MergeRun(tokens_[id], &scratch).ok() && scratch.symbols.size() == 1 &&
                        scratch.symbols[0] == static_cast<int32_t>(id);
  }
}

std::optional<int32_t> Bpe::TokenToId(std::string_view token) const {
  const auto it = ids_.find(View(token));
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

const std::string* Bpe::IdToToken(int32_t id) const {
  if (id < 0 || id >= end_id() || !exists_[id]) return nullptr;
  return &tokens_[id];
}

int32_t Bpe::CharacterId(char32_t c) const {
  if (c < small_characters_.size()) return small_characters_[c];
  const auto it = characters_.find(c);
  return it == characters_.end() ? kNone : it->second;
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

absl::Status Bpe::Encode(std::string_view piece, Scratch* scratch,
                         std::vector<int32_t>* ids) const {
  if (ignore_merges_) {
    if (const std::optional<int32_t> id = TokenToId(piece)) {
      ids->push_back(*id);
      return absl::OkStatus();
    }
  }
  size_t begin = 0;
  if (piece.size() > kUncutPiece) {
    int32_t left = kNone;
    for (size_t pos = 0; pos < piece.size();) {
      const size_t at = pos;
      const int32_t right = CharacterId(DecodeAt(piece, &pos));
      if (left != kNone && right != kNone && !joined_.contains(PairKey(left, right))) {
        RETURN_IF_ERROR(EncodeRun(piece.substr(begin, at - begin), scratch, ids));
        begin = at;
      }
      left = right;
    }
  }
  return EncodeRun(piece.substr(begin), scratch, ids);
}

absl::Status Bpe::EncodeRun(std::string_view run, Scratch* scratch,
                            std::vector<int32_t>* ids) const {
  if (const std::optional<int32_t> id = TokenToId(run); id && merges_whole_[*id]) {
    ids->push_back(*id);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(MergeRun(run, scratch));
  ids->insert(ids->end(), scratch->symbols.begin(), scratch->symbols.end());
  return absl::OkStatus();
}

absl::Status Bpe::MergeRun(std::string_view run, Scratch* scratch) const {
  RETURN_IF_ERROR(InitialSymbols(run, &scratch->symbols));
  if (scratch->symbols.size() <= kShortRun) {
    MergeShort(scratch);
  } else {
    MergeLong(scratch);
  }
  return absl::OkStatus();
}

// Hugging Face keeps an unk back until the next known character, also across byte tokens.
absl::Status Bpe::InitialSymbols(std::string_view run, std::vector<int32_t>* symbols) const {
  symbols->clear();
  bool pending_unk = false;
  for (size_t pos = 0; pos < run.size();) {
    const size_t begin = pos;
    const int32_t id = CharacterId(DecodeAt(run, &pos));
    if (id != kNone) {
      if (pending_unk) symbols->push_back(unk_id_);
      pending_unk = false;
      symbols->push_back(id);
      continue;
    }
    if (byte_fallback_) {
      const std::string_view bytes = run.substr(begin, pos - begin);
      const auto byte_id = [this](char b) { return bytes_[static_cast<uint8_t>(b)]; };
      if (std::none_of(bytes.begin(), bytes.end(), [&](char b) { return byte_id(b) == kNone; })) {
        for (char b : bytes) symbols->push_back(byte_id(b));
        continue;
      }
    }
    if (!unk_token_) continue;
    if (unk_id_ == kNone) {
      return InvalidArgument(
          "the text has a character that the vocabulary lacks, and its "
          "unk_token ",
          Quoted(*unk_token_), " is not in the vocabulary either");
    }
    if (pending_unk && !fuse_unk_) symbols->push_back(unk_id_);
    pending_unk = true;
  }
  if (pending_unk) symbols->push_back(unk_id_);
  return absl::OkStatus();
}

void Bpe::MergeShort(Scratch* scratch) const {
  constexpr Merge kNoMerge = {INT_MAX, kNone};
  std::vector<int32_t>& symbols = scratch->symbols;
  std::vector<Merge>& rules = scratch->rules;
  const auto rule_at = [&](size_t i) {
    const Merge* merge = i + 1 < symbols.size() ? FindMerge(symbols[i], symbols[i + 1]) : nullptr;
    return merge == nullptr ? kNoMerge : *merge;
  };
  rules.resize(symbols.size());
  for (size_t i = 0; i < symbols.size(); ++i) rules[i] = rule_at(i);
  while (symbols.size() > 1) {
    const auto best = std::min_element(rules.begin(), rules.end(),
                                       [](Merge a, Merge b) { return a.rank < b.rank; });
    if (best->id == kNone) return;
    const auto i = static_cast<size_t>(best - rules.begin());
    symbols[i] = best->id;
    symbols.erase(symbols.begin() + i + 1);
    rules.erase(rules.begin() + i + 1);
    rules[i] = rule_at(i);
    if (i > 0) rules[i - 1] = rule_at(i - 1);
  }
}

void Bpe::MergeLong(Scratch* scratch) const {
  std::vector<int32_t>& symbols = scratch->symbols;
  std::vector<Scratch::Node>& nodes = scratch->nodes;
  std::vector<Scratch::Candidate>& heap = scratch->heap;
  const auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const auto n = static_cast<int32_t>(symbols.size());
  nodes.resize(n);
  heap.clear();
  for (int32_t i = 0; i < n; ++i) {
    nodes[i] = {symbols[i], i - 1, i + 1 < n ? i + 1 : kNone};
    if (i + 1 == n) break;
    if (const Merge* merge = FindMerge(symbols[i], symbols[i + 1])) {
      heap.push_back({merge->rank, i, merge->id});
    }
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](int32_t position) {
    const Scratch::Node& node = nodes[position];
    if (node.next == kNone) return;
    if (const Merge* merge = FindMerge(node.id, nodes[node.next].id)) {
      heap.push_back({merge->rank, position, merge->id});
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  while (!heap.empty()) {
    const Scratch::Candidate top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    Scratch::Node& node = nodes[top.position];
    if (node.id == kNone || node.next == kNone) continue;
    const Merge* merge = FindMerge(node.id, nodes[node.next].id);
    if (merge == nullptr || merge->id != top.id) continue;  // its symbols have merged since
    const Scratch::Node right = nodes[node.next];
    nodes[node.next].id = kNone;
    node.id = top.id;
    node.next = right.next;
    if (right.next != kNone) nodes[right.next].previous = top.position;
    if (node.previous != kNone) push(node.previous);
    push(top.position);
  }
  symbols.clear();
  for (int32_t i = 0; i != kNone; i = nodes[i].next) symbols.push_back(nodes[i].id);
}

}  // namespace trireme::text
