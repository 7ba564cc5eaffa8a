// The "pre_tokenizer" of tokenizer.json: cuts the text into the pieces that the model merges
// within.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/status.h"
#include "text/json_fields.h"
#include "text/pattern.h"

namespace trireme::text {

// The input on its way: pieces of one text, in order.
struct Pieces {
  static constexpr int32_t kText = -1;
  struct Piece {
    size_t begin, end;   // in `text`
    int32_t id = kText;  // an added token's id, which is left alone
  };
  std::string text;
  std::vector<Piece> pieces;  // those of text are not empty

  std::string_view View(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }
};

class PreTokenizer {
 public:
  // Sequence, ByteLevel, Split, Metaspace, Whitespace, WhitespaceSplit, Digits, Punctuation; null
  // does nothing. Another type is UNIMPLEMENTED.
  static absl::StatusOr<PreTokenizer> FromJson(const nlohmann::json& json);

  // Whether a step asks which piece is the first of the input (Metaspace "first"): the piece at
  // offset 0, so `Pieces::text` must then be the input itself.
  bool asks_for_start() const { return asks_for_start_; }

  // RESOURCE_EXHAUSTED from a regular expression, see Pattern::Cut.
  absl::Status Apply(Pieces* pieces) const;

 private:
  struct Split {
    Pattern pattern;
    SplitBehavior behavior;
    bool invert;
  };
  struct ByteLevel {  // also rewrites each byte as its character
    bool add_prefix_space;
    std::optional<Pattern> pattern;
  };
  struct Metaspace {
    enum class Prepend { kAlways, kFirst, kNever };
    std::string replacement;
    Prepend prepend;
    bool split;
  };
  using Step = std::variant<Split, ByteLevel, Metaspace>;

  static absl::StatusOr<Step> ParseStep(const nlohmann::json& json, const std::string& type);
  static absl::StatusOr<Step> ParseSplit(Fields* fields);
  static absl::StatusOr<Step> ParseMetaspace(Fields* fields);
  static absl::Status Run(const Split& step, Pieces* pieces);
  static absl::Status Run(const ByteLevel& step, Pieces* pieces);
  static absl::Status Run(const Metaspace& step, Pieces* pieces);

  std::vector<Step> steps_;
  bool asks_for_start_ = false;
};

}  // namespace trireme::text
