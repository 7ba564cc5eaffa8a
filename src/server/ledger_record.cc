#include "server/ledger_record.h"

#include <utility>

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

}  // namespace trireme
