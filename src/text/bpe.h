// Byte-pair encoding (Sennrich et al. 2016): pieces of text -> ids, as Hugging Face's BPE model.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/status.h"
#include "text/json_fields.h"

namespace trireme::text {

class Bpe {
 public:
  // Working memory of Encode, reused from piece to piece; for one thread.
  struct Scratch;

  // The "model" of tokenizer.json. Another type, dropout and subword affixes are UNIMPLEMENTED.
  static absl::StatusOr<std::unique_ptr<const Bpe>> FromJson(const nlohmann::json& json);
  Bpe(const Bpe&) = delete;
  Bpe& operator=(const Bpe&) = delete;

  // Appends the ids of a piece: its characters (or their bytes, or unk), then the merge of lowest
  // rank, leftmost first, until none is left. O(n log n). INVALID_ARGUMENT where unk is needed and
  // the vocabulary does not have it; without an unk_token an unknown character is left out.
  absl::Status Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;

  std::optional<int32_t> TokenToId(std::string_view token) const;
  // nullptr where the vocabulary has a hole or ends.
  const std::string* IdToToken(int32_t id) const;
  int32_t end_id() const { return static_cast<int32_t>(tokens_.size()); }  // 1 + the largest id
  int32_t n_tokens() const { return static_cast<int32_t>(ids_.size()); }

 private:
  struct Merge {
    int32_t rank, id;
  };
  static constexpr int32_t kNone = -1;

  Bpe() = default;
  absl::Status ReadVocab(const nlohmann::json& vocab);
  absl::Status ReadMerges(const nlohmann::json& merges);
  absl::Status AddMerge(const std::string& left, const std::string& right, int32_t rank);
  void FindTokensThatMergeWhole();

  int32_t CharacterId(char32_t c) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;
  absl::Status InitialSymbols(std::string_view run, std::vector<int32_t>* symbols) const;
  absl::Status EncodeRun(std::string_view run, Scratch* scratch, std::vector<int32_t>* ids) const;
  absl::Status MergeRun(std::string_view run, Scratch* scratch) const;
  void MergeShort(Scratch* scratch) const;
  void MergeLong(Scratch* scratch) const;

  std::vector<std::string> tokens_;  // by id
  std::vector<bool> exists_;         // by id
  absl::flat_hash_map<absl::string_view, int32_t> ids_;
  absl::flat_hash_map<uint64_t, Merge> merges_;        // left id << 32 | right id
  std::array<int32_t, 0x250> small_characters_;        // code point -> id
  absl::flat_hash_map<char32_t, int32_t> characters_;  // the others
  std::array<int32_t, 256> bytes_;                     // byte -> id of "<0x..>", or kNone
  std::optional<std::string> unk_token_;
  int32_t unk_id_ = kNone;
  bool byte_fallback_ = false, fuse_unk_ = false, ignore_merges_ = false;

  // Tokens that their own text encodes to: a run that is one needs no merging.
  std::vector<bool> merges_whole_;  // by id
  // Pairs of characters that some merge joins. Where two known characters are not such a pair, a
  // piece can be cut in two without changing its ids.
  absl::flat_hash_set<uint64_t> joined_;  // left id << 32 | right id
};

struct Bpe::Scratch {
  struct Node {  // of a doubly linked list of symbols; id kNone once merged away
    int32_t id, previous, next;
  };
  struct Candidate {  // the merge of the symbol at `position` with the one behind it
    int32_t rank, position, id;
  };
  std::vector<int32_t> symbols;
  std::vector<Merge> rules;  // of each symbol with the one behind it
  std::vector<Node> nodes;
  std::vector<Candidate> heap;
};

}  // namespace trireme::text
