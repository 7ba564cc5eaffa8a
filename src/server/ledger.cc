#include "server/ledger.h"

#include <utility>

#include "base/check.h"

namespace trireme {

Usage LedgerEntry::usage() const {
  return {.prompt_tokens = static_cast<int32_t>(sequence.prompt_ids.size()),
          .completion_tokens = n_emitted(),
          .cached_tokens = cached_tokens};
}

Timings LedgerEntry::timings(Time now) const {
  Timings t;
  t.queue_s = Seconds(handed_over.value_or(now) - request->arrived);
  if (first_id) t.ttft_s = Seconds(*first_id - request->arrived);
  if (n_emitted() > 1) t.tbt_s_mean = Seconds(*last_id - *first_id) / (n_emitted() - 1);
  t.total_s = Seconds(now - request->arrived);
  return t;
}

LedgerRequest& Ledger::Add(LedgerRequest request) {
  const uint64_t key = request.key;
  CHECK(by_request_id_.emplace(std::pair(request.tenant, request.request_id), key).second);
  auto [it, is_new] = requests_.emplace(key, std::move(request));
  CHECK(is_new);
  return it->second;
}

LedgerEntry& Ledger::AddChoice(LedgerRequest& request, SequenceRequest sequence, ChoiceText text) {
  const uint64_t id = ++last_id_;
  auto entry = std::make_unique<LedgerEntry>(LedgerEntry{
      .id = id, .request = &request, .sequence = std::move(sequence), .text = std::move(text)});
  request.open.push_back(entry.get());
  return *entries_.emplace(id, std::move(entry)).first->second;
}

LedgerRequest* Ledger::FindRequest(uint64_t key) {
  auto it = requests_.find(key);
  return it == requests_.end() ? nullptr : &it->second;
}

LedgerEntry* Ledger::Find(uint64_t id) {
  auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : it->second.get();
}

void Ledger::Erase(LedgerEntry& entry) {
  LedgerRequest& request = *entry.request;
  CHECK_EQ(std::erase(request.open, &entry), 1u);
  CHECK_EQ(entries_.erase(entry.id), 1u);
  if (!request.open.empty()) return;
  by_request_id_.erase({request.tenant, request.request_id});
  requests_.erase(request.key);
}

std::vector<uint64_t> Ledger::Keys() const {
  std::vector<uint64_t> keys;
  for (const auto& [key, request] : requests_) keys.push_back(key);
  return keys;
}

}  // namespace trireme
