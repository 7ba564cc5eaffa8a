// Files that are malformed or ask for what is not supported: the code and the whole message.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace trireme {
namespace {

using nlohmann::json;

absl::Status Load(const std::string& text) { return Tokenizer::FromJson(text).status(); }

// A good file with one thing changed: the value at `pointer`, or nothing there if it is "remove".
absl::Status LoadWith(const char* pointer, const std::string& value) {
  json file = json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "dropout": null, "unk_token": null,
              "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
              "byte_fallback": false, "ignore_merges": false,
              "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
  const json::json_pointer at(pointer);
  if (value == "remove") {
    file.at(at.parent_pointer()).erase(at.back());
  } else {
    file[at] = json::parse(value);
  }
  return Load(file.dump());
}

struct Case {
  const char* pointer;
  const char* value;
  const char* message;  // behind "tokenizer.json: "
};

TEST(Malformed, TheFileThatTheCasesChangeIsGood) {
  EXPECT_EQ(LoadWith("/version", "\"1.0\""), absl::OkStatus());
}

TEST(Malformed, IsNotJson) {
  EXPECT_EQ(Load(""), absl::InvalidArgumentError("tokenizer.json: not valid JSON at byte 1"));
  EXPECT_EQ(Load("{\"model\": {"),
            absl::InvalidArgumentError("tokenizer.json: not valid JSON at byte 12"));
  EXPECT_EQ(Load("{\"a\xFF\": 1}"),
            absl::InvalidArgumentError("tokenizer.json: not valid JSON at byte 4"));
  EXPECT_EQ(Load("[1e999]"),
            absl::InvalidArgumentError("tokenizer.json: not valid JSON: a number is out of range"));
  EXPECT_EQ(Load("[]"), absl::InvalidArgumentError("tokenizer.json: top level: must be an object"));
  EXPECT_EQ(Load(std::string(100'000, '[')),
            absl::InvalidArgumentError("tokenizer.json: not valid JSON at byte 100001"));
}

TEST(Malformed, NamesTheKey) {
  const Case cases[] = {
      {"/vocab_file", "1", R"(top level: unknown key "vocab_file")"},
      {"/version", "1", R"(top level: "version" must be a string)"},
      {"/model", "remove", R"(top level: "model" is missing; it must be an object)"},
      {"/model", "null", R"(top level: "model" must be an object)"},
      {"/model/type", "7", R"(model: "type" must be a string)"},
      {"/model/vocab", "remove", R"(model: "vocab" is missing; it must be an object)"},
      {"/model/vocab", "[]", R"(model: "vocab" must be an object)"},
      {"/model/vocab", "{}", R"(model: "vocab" is empty)"},
      {"/model/vocab/a", "-1",
       R"(model: "vocab": the id of "a" must be an integer from 0 to 2097151)"},
      {"/model/vocab/a", "1.0",
       R"(model: "vocab": the id of "a" must be an integer from 0 to 2097151)"},
      {"/model/vocab/a", "2097152",
       R"(model: "vocab": the id of "a" must be an integer from 0 to 2097151)"},
      {"/model/vocab/a", "1", R"(model: "vocab": "a" and "b" both have id 1)"},
      {"/model/merges", "{}", R"(model: "merges" must be an array)"},
      {"/model/merges", R"(["ab"])",
       R"(model: "merges"[0] must be two tokens with a space between)"},
      {"/model/merges", R"(["a b", "a b c"])",
       R"(model: "merges"[1] must be two tokens with a space between)"},
      {"/model/merges", R"([["a", "b", "ab"]])",
       R"(model: "merges"[0] must be a string or a pair of strings)"},
      {"/model/merges", R"([["a", 1]])",
       R"(model: "merges"[0] must be a string or a pair of strings)"},
      {"/model/merges", R"(["a c"])", R"(model: "merges"[0]: "c" is not in the vocabulary)"},
      {"/model/merges", R"(["b a"])", R"(model: "merges"[0]: "ba" is not in the vocabulary)"},
      {"/model/fuse_unk", "\"no\"", R"(model: "fuse_unk" must be true or false)"},
      {"/model/unk_token", "0", R"(model: "unk_token" must be a string)"},
      {"/model/speed", "1", R"(model: unknown key "speed")"},
      {"/added_tokens", "{}", R"("added_tokens" must be an array)"},
      {"/added_tokens/0", "3", R"(added_tokens[0]: must be an object)"},
      {"/added_tokens/0/id", "remove",
       R"(added_tokens[0]: "id" is missing; it must be an integer)"},
      {"/added_tokens/0/id", "-3", R"(added_tokens[0]: "id" must be an integer, 0 or more)"},
      {"/added_tokens/0/id", "5", R"(added_tokens[0]: "<s>" has id 5 but the next free id is 3)"},
      {"/added_tokens/0/content", "\"ab\"",
       R"(added_tokens[0]: "ab" has id 3 but the vocabulary gives it 2)"},
      {"/added_tokens/0/content", "\"\"", R"(added_tokens[0]: "content" is empty)"},
      {"/added_tokens/0/special", "remove",
       R"(added_tokens[0]: "special" is missing; it must be true or false)"},
      {"/added_tokens/0/color", "1", R"(added_tokens[0]: unknown key "color")"},
      {"/normalizer", "7", R"(normalizer must be null or an object with a "type")"},
      {"/normalizer", R"({"type": 1})", R"(normalizer must be null or an object with a "type")"},
      {"/normalizer", R"({"type": "Prepend"})",
       R"(normalizer "Prepend": "prepend" is missing; it must be a string)"},
      {"/normalizer", R"({"type": "NFC", "x": 1})", R"(normalizer "NFC": unknown key "x")"},
      {"/normalizer", R"({"type": "Sequence", "normalizers": [null]})",
       R"(normalizer must be null or an object with a "type")"},
      {"/normalizer", R"({"type": "Sequence"})",
       R"(normalizer "Sequence": "normalizers" is missing; it must be an array)"},
      {"/normalizer", R"({"type": "Replace", "pattern": "x", "content": ""})",
       R"(normalizer "Replace": "pattern" must be an object)"},
      {"/normalizer", R"({"type": "Replace", "pattern": {"Glob": "x"}, "content": ""})",
       R"(normalizer "Replace": "pattern": "Regex" is missing; it must be a string)"},
      {"/normalizer", R"({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})",
       R"(normalizer "Replace": regular expression "(": a group is not closed)"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"String": " "}, "invert": false,
                             "behavior": "Kept"})",
       R"(pre_tokenizer "Split": unknown "behavior" "Kept"; known are Removed, Isolated, )"
       R"(MergedWithPrevious, MergedWithNext, Contiguous)"},
      {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "__"})",
       R"(pre_tokenizer "Metaspace": "replacement" must be one character)"},
      {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
       R"(pre_tokenizer "Metaspace": unknown "prepend_scheme" "last"; known are always, first, )"
       R"(never)"},
      {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false})",
       R"(pre_tokenizer "Metaspace": "add_prefix_space" is false but "prepend_scheme" is not )"
       R"("never")"},
      {"/pre_tokenizer", R"({"type": "ByteLevel", "add_prefix_space": 1, "trim_offsets": true})",
       R"(pre_tokenizer "ByteLevel": "add_prefix_space" must be true or false)"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [
          {"SpecialToken": {"id": "X", "type_id": 0}}], "pair": [], "special_tokens": {}})",
       R"(post_processor "TemplateProcessing": "single": "X" is not in "special_tokens")"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [
          {"Sequence": {"id": "B", "type_id": 0}}], "pair": [], "special_tokens": {}})",
       R"(post_processor "TemplateProcessing": "single": unknown sequence "B")"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [], "pair": [],
          "special_tokens": {"X": {"id": "X", "ids": [4], "tokens": ["<s>"]}}})",
       R"(post_processor "TemplateProcessing": "special_tokens": "X": "ids" must be integers )"
       R"(from 0 to 3)"},
      {"/decoder", R"({"type": "Strip", "content": " ", "start": 1})",
       R"(decoder "Strip": "stop" is missing; it must be an integer)"},
      {"/decoder", R"({"type": "Replace", "pattern": {"String": ""}, "content": "x"})",
       R"(decoder "Replace": "pattern": "String" is empty)"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(LoadWith(c.pointer, c.value),
              absl::InvalidArgumentError(StrCat("tokenizer.json: ", c.message)))
        << c.pointer << " = " << c.value;
  }
}

TEST(Unsupported, IsNamed) {
  const Case cases[] = {
      {"/version", "\"2.0\"", R"(version "2.0" is not supported; 1.0 is)"},
      {"/truncation", R"({"max_length": 512})",
       R"("truncation" is not supported; it must be null)"},
      {"/padding", R"({"strategy": "BatchLongest"})",
       R"("padding" is not supported; it must be null)"},
      {"/model/type", "\"Unigram\"", R"(model "Unigram" is not supported)"},
      {"/model/dropout", "0.1", R"(model: "dropout" is not supported; it must be null)"},
      {"/model/continuing_subword_prefix", "\"##\"",
       R"(model: "continuing_subword_prefix" is not supported; it must be null or empty)"},
      {"/model/end_of_word_suffix", "\"</w>\"",
       R"(model: "end_of_word_suffix" is not supported; it must be null or empty)"},
      {"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": ""})",
       R"(normalizer "Precompiled" is not supported)"},
      {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "Nmt"}]})",
       R"(normalizer "Nmt" is not supported)"},
      {"/pre_tokenizer", R"({"type": "UnicodeScripts"})",
       R"(pre_tokenizer "UnicodeScripts" is not supported)"},
      {"/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [
          {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
          {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}]})",
       R"(pre_tokenizer "Metaspace" with prepend_scheme "first" behind a ByteLevel or another )"
       R"(Metaspace is not supported)"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "(a)\\1"},
                             "behavior": "Isolated", "invert": false})",
       R"(pre_tokenizer "Split": regular expression "(a)\1": "\1" is not supported)"},
      {"/post_processor", R"({"type": "BertProcessing", "sep": ["a", 0], "cls": ["b", 1]})",
       R"(post_processor "BertProcessing" is not supported)"},
      {"/decoder", R"({"type": "WordPiece", "prefix": "##", "cleanup": true})",
       R"(decoder "WordPiece" is not supported)"},
      {"/decoder", R"({"type": "Replace", "pattern": {"Regex": "x"}, "content": ""})",
       R"(decoder "Replace" of a Regex is not supported)"},
      {"/decoder", R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
                       {"type": "ByteFallback"}]})",
       R"(decoder "ByteFallback" behind a Fuse or a ByteLevel is not supported)"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(LoadWith(c.pointer, c.value),
              absl::UnimplementedError(StrCat("tokenizer.json: ", c.message)))
        << c.pointer << " = " << c.value;
  }
}

TEST(Unsupported, MetaspaceFirstBehindANormalizer) {
  json file = {{"model", {{"vocab", {{"a", 0}}}, {"merges", json::array()}}},
               {"normalizer", {{"type", "NFC"}}},
               {"pre_tokenizer",
                {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}}}};
  EXPECT_EQ(Load(file.dump()),
            absl::UnimplementedError(
                "tokenizer.json: pre_tokenizer \"Metaspace\" with prepend_scheme \"first\" behind "
                "a normalizer is not supported"));
}

TEST(Malformed, SequencesAreNotNestedWithoutEnd) {
  std::string nested = R"({"type": "NFC"})";
  for (int i = 0; i < 10; ++i) {
    nested = R"({"type": "Sequence", "normalizers": [)" + nested + "]}";
  }
  EXPECT_EQ(LoadWith("/normalizer", nested),
            absl::InvalidArgumentError(
                "tokenizer.json: normalizer: Sequences are nested more than 8 deep"));
}

TEST(Malformed, AMessageIsOneShortLine) {
  const json type(std::string(5000, 'x') + "\n");
  const absl::Status status = LoadWith("/normalizer", json({{"type", type}}).dump());
  EXPECT_EQ(status, absl::UnimplementedError("tokenizer.json: normalizer \"" +
                                             std::string(100, 'x') + "…\" is not supported"));
}

}  // namespace
}  // namespace trireme
