#include "server/ledger.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "server/prefix_index.h"

namespace trireme {
namespace {

// What a choice takes, about.
size_t BytesOf(const LedgerEntry& entry) {
  constexpr size_t kOverhead = 2048;  // with its share of the request's, and its text's state
  const SequenceRequest& sequence = entry.sequence;
  const auto of_logprobs = [](const std::vector<TokenLogprobs>& logprobs,
                              std::optional<int32_t> n_top) {
    const auto n = static_cast<size_t>(n_top.value_or(0));
    return logprobs.size() * (sizeof(TokenLogprobs) + n * sizeof(TokenLogprobs::Top));
  };
  return kOverhead + sizeof(int32_t) * static_cast<size_t>(entry.n_tokens()) +
         of_logprobs(entry.logprobs, sequence.logprobs) +
         of_logprobs(entry.prompt_logprobs, sequence.prompt_logprobs);
}

}  // namespace

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
  if (request.client != 0) by_client_.emplace(request.client, key);
  auto [it, is_new] = requests_.emplace(key, std::move(request));
  CHECK(is_new);
  return it->second;
}

void Ledger::SetClient(LedgerRequest& request, uint64_t client) {
  if (request.client != 0) by_client_.erase(request.client);
  if (client != 0) by_client_.emplace(client, request.key);
  request.client = client;
}

LedgerEntry& Ledger::AddChoice(LedgerRequest& request, SequenceRequest sequence) {
  const uint64_t id = ++last_id_;
  ChoiceText text(request.model->tokenizer, sequence.prompt_ids, request.stops,
                  sequence.min_tokens);
  auto entry = std::make_unique<LedgerEntry>(LedgerEntry{
      .id = id, .request = &request, .sequence = std::move(sequence), .text = std::move(text)});
  entry->prefix = PrefixIndex::Chain(entry->sequence);
  request.choices.push_back(entry.get());
  request.open.push_back(entry.get());
  ++n_open_;
  ++n_open_by_tenant_[request.tenant];
  Measure(*entry);
  return *entries_.emplace(id, std::move(entry)).first->second;
}

void Ledger::Measure(LedgerEntry& entry) {
  bytes_ -= entry.bytes;
  entry.bytes = BytesOf(entry);
  bytes_ += entry.bytes;
}

LedgerRequest* Ledger::FindRequest(uint64_t key) {
  auto it = requests_.find(key);
  return it == requests_.end() ? nullptr : &it->second;
}

LedgerRequest* Ledger::FindRequest(const std::string& tenant, const std::string& request_id) {
  auto it = by_request_id_.find({tenant, request_id});
  return it == by_request_id_.end() ? nullptr : FindRequest(it->second);
}

LedgerRequest* Ledger::FindClient(uint64_t client) {
  auto it = by_client_.find(client);
  return it == by_client_.end() ? nullptr : FindRequest(it->second);
}

LedgerEntry* Ledger::Find(uint64_t id) {
  auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : it->second.get();
}

void Ledger::Close(LedgerEntry& entry) {
  CHECK_EQ(std::erase(entry.request->open, &entry), 1u);
  --n_open_;
  const auto tenant = n_open_by_tenant_.find(entry.request->tenant);
  if (--tenant->second == 0) n_open_by_tenant_.erase(tenant);
}

size_t Ledger::n_open(const std::string& tenant) const {
  const auto it = n_open_by_tenant_.find(tenant);
  return it == n_open_by_tenant_.end() ? 0 : it->second;
}

void Ledger::Erase(LedgerRequest& request) {
  CHECK(request.open.empty());
  for (LedgerEntry* entry : request.choices) {
    bytes_ -= entry->bytes;
    CHECK_EQ(entries_.erase(entry->id), 1u);
  }
  SetClient(request, 0);
  by_request_id_.erase({request.tenant, request.request_id});
  requests_.erase(request.key);
}

std::vector<uint64_t> Ledger::KeysOf(const std::string& request_id) const {
  std::vector<uint64_t> keys;
  for (const auto& [name, key] : by_request_id_) {
    if (name.second == request_id) keys.push_back(key);
  }
  std::ranges::sort(keys);
  return keys;
}

std::vector<uint64_t> Ledger::Keys() const {
  std::vector<uint64_t> keys;
  for (const auto& [key, request] : requests_) keys.push_back(key);
  return keys;
}

}  // namespace trireme
