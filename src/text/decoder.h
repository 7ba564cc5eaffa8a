// The "decoder" of tokenizer.json: tokens -> text, all at once or as they come.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/json_fields.h"
#include "text/utf8.h"

namespace trireme::text {

// A chain of steps. Each takes a list of strings and gives a list of strings; the text is what the
// last one gives, joined. Behind a step that fuses (Fuse, ByteLevel) the list is a single string,
// which arrives in chunks.
class Decoder {
 public:
  // Sequence, ByteLevel, Replace (a String), ByteFallback, Fuse, Strip, Metaspace; null joins the
  // tokens with spaces. Another type, a Replace of a Regex, and a ByteLevel or ByteFallback behind
  // a step that fuses are UNIMPLEMENTED.
  static absl::StatusOr<Decoder> FromJson(const nlohmann::json& json);

  // What the token adds to a text that is under way, by itself: bytes, not whole characters.
  std::string BytesOf(std::string_view token) const;

 private:
  friend class DecodeStream;

  enum class Kind { kJoin, kByteLevel, kReplace, kByteFallback, kFuse, kStrip, kMetaspace };
  struct Step {
    Kind kind;
    bool fused = false;            // its input is one string, in chunks
    std::string from, to;          // kReplace; kStrip and kMetaspace: `from` is one character
    std::vector<size_t> borders;   // kReplace, fused: Knuth-Morris-Pratt's table of `from`
    uint64_t start = 0, stop = 0;  // kStrip: how many at most
    bool drop_in_first = false;    // kMetaspace
  };

  static absl::StatusOr<Step> ParseStep(const nlohmann::json& json, const std::string& type,
                                        bool fused);
  bool IsLocal() const;

  std::vector<Step> steps_;
};

// One text being decoded. Copyable: a copy goes on by itself. `decoder` outlives it.
class DecodeStream {
 public:
  explicit DecodeStream(const Decoder* decoder);

  // Appends the text that is certain with this token: whole characters, none of which a later token
  // can change. O(length of the token and of what it releases).
  void Push(std::string_view token, std::string* out);

  // Appends what was withheld. Nothing may be pushed after.
  void Finish(std::string* out);

  // The middle of a long text need not be pushed. Once CanForget, one may Forget and go on further
  // behind, with a token at which one CanResume; all but the first kRemembered bytes of the tokens
  // from there on give the same as if everything in between had been pushed.
  bool CanForget() const;
  bool CanResume(std::string_view token) const;
  void Forget();
  static constexpr size_t kRemembered = 16;

 private:
  struct State {           // of one step
    uint64_t count = 0;    // strings seen; kStrip, fused: characters stripped at the start
    std::string withheld;  // kByteFallback: bytes of a run; kReplace and kStrip, fused: a tail
    LossyUtf8 bytes;       // kByteLevel
    bool started = false;  // kStrip, fused: the start is over
  };

  void Run(size_t step, std::string_view text, std::string* out);
  void Replace(size_t step, std::string_view text, std::string* out);
  void ReplaceFused(size_t step, std::string_view text, std::string* out);
  void ByteFallback(size_t step, std::string_view text, std::string* out);
  void EndByteRun(size_t step, std::string* out);
  void Strip(size_t step, std::string_view text, std::string* out);
  void StripFused(size_t step, std::string_view text, std::string* out);
  void Metaspace(size_t step, std::string_view text, std::string* out);

  const Decoder* decoder_;
  std::vector<State> states_;  // one per step
};

}  // namespace trireme::text
