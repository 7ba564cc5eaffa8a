// What OpenAI's API and vLLM know and this server does not do.
#pragma once

#include <vector>

#include "nlohmann/json.hpp"
#include "server/json_body.h"

namespace trireme {

enum Endpoint : unsigned { kCompletions = 1, kChats = 2, kTokenize = 4 };

// A field that would change the answer.
struct UnsupportedField {
  const char* name;
  unsigned endpoints;                                 // that know it
  std::vector<nlohmann::ordered_json> harmless = {};  // what does nothing there, beside null
};
const std::vector<UnsupportedField>& UnsupportedFields();

// Fails at the first field that would change the answer of this endpoint.
void RefuseUnsupported(JsonBody& body, Endpoint endpoint);

}  // namespace trireme
