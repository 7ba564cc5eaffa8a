// Any bytes as a tokenizer.json, and any bytes as a text for it.
// Input: a byte that chooses, then a NUL-terminated tokenizer.json (if the byte is 'J'; else one of
// kTokenizers is taken), then the text, whose bytes are also taken as ids.
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/stop_matcher.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace trireme {
namespace {

constexpr std::string_view kTokenizers[] = {
    R"({"model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,"fuse_unk":true,
        "vocab":{"<unk>":0,"<0x41>":1,"<0xC3>":2,"<0xA9>":3,"\u2581":4,"a":5,"b":6,"aa":7,
                 "ab":8,"\u2581a":9,"\u2581\u2581":10,"<s>":11,"aab":12,"\n":13},
        "merges":["a a","\u2581 a","a b","\u2581 \u2581","aa b"]},
        "added_tokens":[{"id":11,"content":"<s>","single_word":false,"lstrip":true,"rstrip":true,
                         "normalized":false,"special":true},
                        {"id":14,"content":"ba","single_word":true,"lstrip":false,"rstrip":false,
                         "normalized":true,"special":false}],
        "normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},
          {"type":"Prepend","prepend":"\u2581"},
          {"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]},
        "post_processor":{"type":"TemplateProcessing","single":[
          {"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
          "pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[11],"tokens":["<s>"]}}},
        "decoder":{"type":"Sequence","decoders":[
          {"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},
          {"type":"Fuse"},{"type":"Replace","pattern":{"String":"aab"},"content":"x"},
          {"type":"Strip","content":" ","start":2,"stop":2}]}})",
    R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"\u00c3":3,"\u00a9":4,"\u0120":5,"1":6,
                 "\u0120a":7,"\u00c3\u00a9":8,"\u010a":9,"'":10},
        "merges":[["a","b"],["\u0120","a"],["\u00c3","\u00a9"]]},"normalizer":{"type":"NFC"},
        "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":
          "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
          "behavior":"Isolated","invert":false},{"type":"Punctuation","behavior":"MergedWithNext"},
          {"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}]},
        "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true}})",
    R"({"model":{"type":"BPE","unk_token":"?","vocab":{"?":0,"_":1,"a":2,"_a":3,"__":4,"aa":5},
        "merges":["_ a","_ _","a a"]},"pre_tokenizer":{"type":"Metaspace","replacement":"_",
        "prepend_scheme":"first","split":true},
        "decoder":{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true}})",
};

// One line that fits on a screen.
void CheckError(const absl::Status& status) {
  const std::string message = Message(status);
  CHECK(!message.empty() && message.size() < 1500) << message.size();
  CHECK(message.find('\n') == std::string::npos) << message;
}

void Exercise(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view input) {
  const auto check_decoding = [&](const std::vector<int32_t>& ids) {
    const std::string whole = tokenizer->Decode(ids, true);
    CHECK(text::FindInvalidUtf8(whole) == std::string::npos);
    Detokenizer detokenizer(tokenizer, {}, true);
    StopMatcher stops({"ab", "a b"});
    std::string streamed, shown;
    const auto take = [&](const std::string& text) {
      CHECK(text::FindInvalidUtf8(text) == std::string::npos);
      streamed += text;
      shown += stops.Push(text).emit;
    };
    for (int32_t id : ids) take(detokenizer.Push(id));
    take(detokenizer.Finish());
    shown += stops.Flush();
    CHECK(streamed == whole);
    CHECK(shown == whole.substr(0, std::min(whole.find("ab"), whole.find("a b"))));
  };
  const absl::StatusOr<std::vector<int32_t>> ids = tokenizer->Encode(input, true);
  if (!ids.ok()) {
    CheckError(ids.status());
  } else {
    for (int32_t id : *ids) CHECK(id >= 0 && id < tokenizer->vocab_size());
    check_decoding(*ids);
  }
  std::vector<int32_t> bytes;
  for (char c : input) bytes.push_back(c);
  check_decoding(bytes);
}

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const char choice = input.front();
  input.remove_prefix(1);
  if (choice != 'J') {
    static const auto* tokenizers = [] {
      auto* made = new std::vector<std::shared_ptr<const Tokenizer>>;
      for (std::string_view json : kTokenizers) {
        absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::FromJson(json);
        CHECK(tokenizer.ok()) << Message(tokenizer.status());
        made->push_back(*tokenizer);
      }
      return made;
    }();
    Exercise((*tokenizers)[static_cast<uint8_t>(choice) % tokenizers->size()], input);
    return 0;
  }
  const size_t end = std::min(input.find('\0'), input.size());
  const absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer =
      Tokenizer::FromJson(input.substr(0, end));
  if (!tokenizer.ok()) {
    CheckError(tokenizer.status());
  } else {
    Exercise(*tokenizer, input.substr(std::min(end + 1, input.size())));
  }
  return 0;
}
