// TokenLogprobs to and from the messages of that name, which both protos have.
#pragma once

#include <algorithm>
#include <vector>

#include "google/protobuf/repeated_field.h"
#include "runtime/request.h"

namespace trireme {

template <typename Proto>
void Assign(const std::vector<TokenLogprobs>& all, google::protobuf::RepeatedPtrField<Proto>* to) {
  for (const TokenLogprobs& from : all) {
    Proto& proto = *to->Add();
    proto.set_logprob(from.logprob);
    for (const TokenLogprobs::Top& top : from.top) {
      proto.add_top_ids(top.id);
      proto.add_top_logprobs(top.logprob);
    }
  }
}

template <typename Proto>
std::vector<TokenLogprobs> ToLogprobs(const google::protobuf::RepeatedPtrField<Proto>& all) {
  std::vector<TokenLogprobs> logprobs;
  logprobs.reserve(static_cast<size_t>(all.size()));
  for (const Proto& proto : all) {
    TokenLogprobs& to = logprobs.emplace_back();
    to.logprob = proto.logprob();
    const int n = std::min(proto.top_ids_size(), proto.top_logprobs_size());
    for (int i = 0; i < n; ++i) to.top.push_back({proto.top_ids(i), proto.top_logprobs(i)});
  }
  return logprobs;
}

}  // namespace trireme
