#include "server/fair_queue.h"

#include <algorithm>

#include "base/check.h"

namespace trireme {

// The tenant of an entry; one that was idle starts where the others are.
FairQueue::Tenant& FairQueue::Wake(const LedgerEntry& entry) {
  const LedgerRequest& request = *entry.request;
  Tenant& tenant = tenants_[request.tenant];
  if (tenant.idle()) tenant.time = std::max(tenant.time, now_);
  tenant.weight = request.weight;
  return tenant;
}

FairQueue::Place FairQueue::PlaceOf(const LedgerEntry& entry) {
  return {-int64_t{entry.sequence.priority}, entry.id};
}

void FairQueue::Insert(const LedgerEntry& entry) {
  ++size_;
  if (entry.suspect()) {
    CHECK(suspects_.insert(entry.id).second);
    return;
  }
  Tenant& tenant = Wake(entry);
  if (tenant.waiting.empty()) order_.emplace(tenant.time, entry.request->tenant);
  CHECK(tenant.waiting.insert(PlaceOf(entry)).second);
}

void FairQueue::Erase(const LedgerEntry& entry) {
  --size_;
  if (suspects_.erase(entry.id) > 0) return;
  Tenant& tenant = tenants_.at(entry.request->tenant);
  CHECK_EQ(tenant.waiting.erase(PlaceOf(entry)), 1u);
  if (tenant.waiting.empty()) order_.erase({tenant.time, entry.request->tenant});
}

void FairQueue::Enter(const LedgerEntry& entry) {
  Tenant& tenant = Wake(entry);
  ++tenant.n_in_service;
  now_ = std::max(now_, tenant.time);
  Forget();
}

void FairQueue::Leave(const LedgerEntry& entry) {
  Tenant& tenant = tenants_.at(entry.request->tenant);
  CHECK(tenant.n_in_service > 0);
  --tenant.n_in_service;
}

void FairQueue::Charge(const LedgerEntry& entry, double tokens) {
  Tenant& tenant = tenants_.at(entry.request->tenant);
  const auto place = order_.find({tenant.time, entry.request->tenant});
  tenant.time += tokens / tenant.weight;
  if (place == order_.end()) return;
  order_.erase(place);
  order_.emplace(tenant.time, entry.request->tenant);
}

// Idle tenants that would start where the others are in any case.
void FairQueue::Forget() {
  constexpr size_t kEnough = 64;  // not at every step
  if (tenants_.size() < kEnough) return;
  std::erase_if(tenants_,
                [this](const auto& t) { return t.second.idle() && t.second.time <= now_; });
}

std::vector<uint64_t> FairQueue::suspects() const { return {suspects_.begin(), suspects_.end()}; }

std::vector<uint64_t> FairQueue::entries() const {
  std::vector<uint64_t> ids = suspects();
  for (const auto& [name, tenant] : tenants_) {
    for (const Place& place : tenant.waiting) ids.push_back(place.second);
  }
  return ids;
}

bool FairQueue::idle() const {
  return size_ == 0 && std::ranges::all_of(tenants_, [](const auto& t) { return t.second.idle(); });
}

}  // namespace trireme
