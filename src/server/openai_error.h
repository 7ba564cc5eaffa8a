// Errors as OpenAI's HTTP API words them.
#pragma once

#include <string>

#include "base/status.h"

namespace trireme {

//   {"error": {"message": …, "type": …, "param": …, "code": …}}
struct OpenAiError {
  int http_status;
  std::string body;
};

// `param`: the field at fault; empty: the one that the status names (request_fault.h), if any.
OpenAiError ToOpenAiError(const absl::Status& status, std::string param = "");

}  // namespace trireme
