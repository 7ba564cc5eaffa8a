#include "server/ledger_record.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/admission.h"

namespace trireme {
namespace {

using Requests = std::map<uint64_t, RestoredRequest>;  // by key: in order of arrival

void Apply(const ModelRecord&, Requests&) {}
void Apply(const RequestRecord& record, Requests& requests) {
  requests[record.key] = {.request = record};
}
void Apply(const IdsRecord& record, Requests& requests) {
  const auto it = requests.find(record.key);
  if (it == requests.end()) return;
  RestoredRequest::Choice& choice = it->second.choices[record.choice];
  if (record.offset < 0 || static_cast<size_t>(record.offset) != choice.ids.size()) return;
  choice.ids.insert(choice.ids.end(), record.ids.begin(), record.ids.end());
  choice.logprobs.insert(choice.logprobs.end(), record.logprobs.begin(), record.logprobs.end());
  if (record.offset == 0) choice.prompt_logprobs = record.prompt_logprobs;
  choice.fingerprint = record.fingerprint;
}
void Apply(const FinishedRecord& record, Requests& requests) {
  const auto it = requests.find(record.key);
  if (it != requests.end()) it->second.choices[record.finished.choice].finished = record.finished;
}
void Apply(const FailedRecord& record, Requests& requests) {
  const auto it = requests.find(record.key);
  if (it != requests.end()) it->second.error = record.error;
}
void Apply(const GoneRecord& record, Requests& requests) { requests.erase(record.key); }

}  // namespace

std::vector<RestoredRequest> Restore(std::span<const LedgerRecord> records) {
  Requests requests;
  for (const LedgerRecord& record : records) {
    std::visit([&](const auto& r) { Apply(r, requests); }, record);
  }
  std::vector<RestoredRequest> restored;
  for (auto& [key, request] : requests) restored.push_back(std::move(request));
  return restored;
}

absl::Status CheckRestored(const RestoredRequest& restored, const ServedModel& model) {
  const RequestRecord& request = restored.request;
  const SequenceRequest& sequence = request.sequence;
  const auto of_vocabulary = [&](const std::vector<int32_t>& ids) {
    return std::ranges::all_of(ids, [&](int32_t id) { return id >= 0 && id < model.vocab_size; });
  };
  if (request.n < 1 || request.n > kMaxChoices) return InvalidArgument("n is ", request.n);
  if (!(request.weight > 0) || !std::isfinite(request.weight)) {
    return InvalidArgument("weight is ", request.weight);
  }
  if (sequence.prompt_ids.empty() || !of_vocabulary(sequence.prompt_ids)) {
    return InvalidArgument("its prompt is none of this vocabulary");
  }
  for (const auto& n_top : {sequence.logprobs, sequence.prompt_logprobs}) {
    if (n_top.has_value() && (*n_top < 0 || *n_top > kMaxTopLogprobs)) {
      return InvalidArgument("logprobs of ", *n_top, " ids");
    }
  }
  if (sequence.min_tokens < 0 || sequence.min_tokens > sequence.max_tokens) {
    return InvalidArgument("min_tokens is ", sequence.min_tokens, ", max_tokens ",
                           sequence.max_tokens);
  }
  for (const auto& [index, choice] : restored.choices) {
    const bool logprobs = sequence.logprobs.has_value();
    if (choice.logprobs.size() != (logprobs ? choice.ids.size() : 0)) {
      return InvalidArgument(choice.logprobs.size(), " logprobs of ", choice.ids.size(), " ids");
    }
    if (choice.ids.size() > static_cast<size_t>(sequence.max_tokens) ||
        !of_vocabulary(choice.ids)) {
      return InvalidArgument("choice ", index, " has ids that no replica can have sent");
    }
  }
  return absl::OkStatus();
}

}  // namespace trireme
