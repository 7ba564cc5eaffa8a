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
  t.queue_s = Seconds(handed_over.value_or(now) - arrived);
  if (first_id) t.ttft_s = Seconds(*first_id - arrived);
  if (n_emitted() > 1) t.tbt_s_mean = Seconds(*last_id - *first_id) / (n_emitted() - 1);
  t.total_s = Seconds(now - arrived);
  return t;
}

LedgerEntry& Ledger::Add(std::unique_ptr<LedgerEntry> entry) {
  CHECK(by_request_id_.emplace(entry->request_id, entry->key).second);
  auto [it, is_new] = entries_.emplace(entry->key, std::move(entry));
  CHECK(is_new);
  return *it->second;
}

LedgerEntry* Ledger::Find(uint64_t key) {
  auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : it->second.get();
}

void Ledger::Erase(uint64_t key) {
  auto it = entries_.find(key);
  CHECK(it != entries_.end());
  by_request_id_.erase(it->second->request_id);
  entries_.erase(it);
}

}  // namespace trireme
