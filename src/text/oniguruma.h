// tokenizer.json's regular expressions are written for Oniguruma (Ruby syntax); PCRE2 runs them.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace trireme::text {

// `pattern` rewritten so that PCRE2 finds what Oniguruma 6.9.10 finds, given the options UTF, UCP
// and MULTILINE and newline LF. What differs between the two and is rewritten here: \s, \w, \b, \h,
// \v; the option m; {,n}, {n}? and {n,m}+; scripts against script extensions; nested and
// intersected classes; an isolated (?i); the characters of Unicode 15 and 16, which older PCRE2
// releases do not know. Groups do not capture.
// UNIMPLEMENTED names a construct that has no rewriting; INVALID_ARGUMENT says what is malformed.
// Not covered: under (?i) Oniguruma also matches "ss" with U+00DF and the like; PCRE2 does not.
absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view pattern);

}  // namespace trireme::text
