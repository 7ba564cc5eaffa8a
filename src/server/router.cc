#include "server/router.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace trireme {

int32_t LinkedReplica::context_length() const {
  const int64_t kv_tokens = info.kv_tokens > 0 ? info.kv_tokens : info.context_length;
  return static_cast<int32_t>(std::min<int64_t>(info.context_length, kv_tokens));
}

bool LinkedReplica::HasRoom() const {
  return !isolating && !draining && !reserved &&
         static_cast<int64_t>(running.size() + cancelling.size()) < credits.sequences;
}

// One alone need not fit the credits: the replica can hold it.
bool LinkedReplica::HasRoomFor(const LedgerEntry& entry) const {
  return HasRoom() && (running.empty() || kv_tokens + entry.n_tokens() <= credits.kv_tokens);
}

bool LinkedReplica::Serves(const LedgerEntry& entry) const {
  const auto tokens =
      static_cast<int64_t>(entry.sequence.prompt_ids.size()) + entry.sequence.max_tokens;
  return entry.model() == model && tokens <= context_length() &&
         (entry.fingerprint.empty() || entry.fingerprint == info.fingerprint);
}

LinkedReplica& Router::Add(LinkedReplica replica) {
  const uint64_t link = replica.link;
  auto [it, is_new] = replicas_.emplace(link, std::move(replica));
  CHECK(is_new) << "link " << link;
  return it->second;
}

LinkedReplica* Router::Find(uint64_t link) {
  auto it = replicas_.find(link);
  return it == replicas_.end() ? nullptr : &it->second;
}

LinkedReplica* Router::FindInstance(uint64_t instance) {
  for (auto& [link, replica] : replicas_) {
    if (replica.instance == instance) return &replica;
  }
  return nullptr;
}

void Router::Erase(uint64_t link) { CHECK_EQ(replicas_.erase(link), 1u); }

LinkedReplica* Router::Pick(const LedgerEntry& entry) {
  const auto load = [&](const LinkedReplica& r) {
    return std::tuple(r.tokens_left - r.prefixes.Match(entry.prefix), r.running.size(), r.link);
  };
  LinkedReplica* best = nullptr;
  for (auto& [link, replica] : replicas_) {
    if (!replica.HasRoomFor(entry) || !replica.Serves(entry)) continue;
    if (best == nullptr || load(replica) < load(*best)) best = &replica;
  }
  return best;
}

LinkedReplica* Router::PickAlone(const LedgerEntry& entry) {
  const auto load = [](const LinkedReplica& r) {
    return std::tuple(!r.isolating, r.tokens_left, r.link);
  };
  LinkedReplica* best = nullptr;
  for (auto& [link, replica] : replicas_) {
    if (replica.draining || !replica.Serves(entry)) continue;
    if (best == nullptr || load(replica) < load(*best)) best = &replica;
  }
  return best;
}

bool Router::AnyServes(const LedgerEntry& entry) const {
  return std::ranges::any_of(replicas_, [&](const auto& r) { return r.second.Serves(entry); });
}

bool Router::AnyTakes(const LedgerEntry& entry) const {
  return std::ranges::any_of(
      replicas_, [&](const auto& r) { return !r.second.draining && r.second.Serves(entry); });
}

bool Router::AnyHasRoom(const ServedModel& model) const {
  return std::ranges::any_of(replicas_, [&](const auto& r) {
    return r.second.model.get() == &model && r.second.HasRoom();
  });
}

void Router::Reserve(const LedgerEntry& entry) {
  for (auto& [link, replica] : replicas_) replica.reserved |= replica.Serves(entry);
}

void Router::ReleaseAll() {
  for (auto& [link, replica] : replicas_) replica.reserved = false;
}

bool Router::AnyOf(const ServedModel& model) const {
  return std::ranges::any_of(replicas_,
                             [&](const auto& r) { return r.second.model.get() == &model; });
}

int32_t Router::ContextLength(const ServedModel& model) const {
  int32_t length = model.context_length;
  for (const auto& [link, replica] : replicas_) {
    if (replica.model.get() == &model) length = std::min(length, replica.context_length());
  }
  return length;
}

void Router::Assign(LedgerEntry& entry, LinkedReplica& replica) {
  CHECK(!entry.link.has_value());
  entry.link = replica.link;
  CHECK(replica.running.emplace(entry.sequence.id, entry.id).second);
  replica.prefixes.Add(entry.prefix);
  Charge(entry, /*prefilled=*/false);
}

void Router::Release(LedgerEntry& entry, bool cancelled) {
  CHECK(entry.link.has_value());
  if (LinkedReplica* replica = Find(*entry.link)) {
    replica->running.erase(entry.sequence.id);
    replica->tokens_left -= entry.tokens_left;
    replica->kv_tokens -= entry.kv_tokens;
    if (cancelled) replica->cancelling.insert(entry.sequence.id);
  }
  entry.link.reset();
  entry.tokens_left = 0;
  entry.kv_tokens = 0;
  entry.sequence.id = 0;
}

void Router::Charge(LedgerEntry& entry, bool prefilled) {
  LinkedReplica* replica = Find(*entry.link);
  CHECK(replica != nullptr);
  int64_t left = entry.sequence.max_tokens - entry.n_emitted();
  if (!prefilled) left += entry.n_tokens();
  replica->tokens_left += left - entry.tokens_left;
  entry.tokens_left = left;
  replica->kv_tokens += entry.n_tokens() - entry.kv_tokens;
  entry.kv_tokens = entry.n_tokens();
}

}  // namespace trireme
