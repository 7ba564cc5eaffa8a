// A template's text -> tokens, with the white space control of jinja2 under trim_blocks and
// lstrip_blocks, which is how Hugging Face sets it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

struct Token {
  enum Kind {
    kData,           // text outside of tags
    kVariableBegin,  // {{
    kVariableEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kString,  // value: without quotes and escapes
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };

  Kind kind;
  int line;
  std::string text;  // as written; of data, what is left of it
  Value value;       // of a literal
};

// The last token is kEnd. INVALID_ARGUMENT names the line.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

// "line 7: …", the beginning of all errors of a template.
absl::Status AtLine(int line, const absl::Status& status);

}  // namespace trireme::jinja
