// What waits for a replica of one model.
//
// Suspects (controller_suspects.cc) come first. The others belong to tenants, which share the
// service by weight: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996), where what is
// shared is tokens (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024). A
// tenant's virtual time is what it was charged, by its weight; the tenant with the least is served
// next. One that was idle starts where the others are: it has no claim on what it did not ask for.
// Within a tenant entries go by priority, then by age.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/ledger.h"

namespace trireme {

class FairQueue {
 public:
  void Insert(const LedgerEntry& entry);  // it waits
  void Erase(const LedgerEntry& entry);   // it does not wait any more

  // It is in service; until Leave, its tenant is not idle.
  void Enter(const LedgerEntry& entry);
  void Leave(const LedgerEntry& entry);

  // Its tenant had so many tokens of service, or fewer than it was charged.
  void Charge(const LedgerEntry& entry, double tokens);

  // Offers entries, suspects left out, the first one of the least served tenant first, while
  // `go_on()`. `take(entry id)` may Enter, Charge and Erase the one that it is given, and no other.
  template <typename GoOn, typename Take>
  void Offer(GoOn go_on, Take take);

  std::vector<uint64_t> suspects() const;  // ids of entries, by age
  std::vector<uint64_t> entries() const;   // all of them
  size_t size() const { return size_; }
  bool idle() const;  // nothing waits and nothing is in service

 private:
  using Place = std::pair<int64_t, uint64_t>;  // (-priority, entry): the first first
  struct Tenant {
    double weight = 1;
    double time = 0;  // virtual
    size_t n_in_service = 0;
    std::set<Place> waiting;
    bool idle() const { return waiting.empty() && n_in_service == 0; }
  };
  using Tenants = std::map<std::string, Tenant>;

  static Place PlaceOf(const LedgerEntry& entry);
  Tenant& Wake(const LedgerEntry& entry);
  void Forget();

  std::set<uint64_t> suspects_;
  Tenants tenants_;                                 // those idle for long are gone
  std::set<std::pair<double, std::string>> order_;  // of tenants with somebody waiting
  double now_ = 0;  // virtual: when the service that began last began
  size_t size_ = 0;
};

template <typename GoOn, typename Take>
void FairQueue::Offer(GoOn go_on, Take take) {
  std::map<std::string, Place> passed;  // by tenant: the last one that was not taken
  std::set<std::string> done;           // tenants of whom nothing can be taken
  while (go_on()) {
    auto next = order_.begin();
    while (next != order_.end() && done.contains(next->second)) ++next;
    if (next == order_.end()) return;
    const std::string name = next->second;
    const std::set<Place>& waiting = tenants_.at(name).waiting;
    const auto last = passed.find(name);
    const auto place = last == passed.end() ? waiting.begin() : waiting.upper_bound(last->second);
    if (place == waiting.end()) {
      done.insert(name);
      continue;
    }
    const Place offered = *place;
    take(offered.second);
    passed.insert_or_assign(name, offered);
  }
}

}  // namespace trireme
