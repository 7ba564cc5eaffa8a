// Tenants share the service by weight: in order of virtual time, by priority and age within one,
// and in the long run by tokens, whoever asks for more.
#include "server/fair_queue.h"

#include <cmath>
#include <memory>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trireme {
namespace {

using testing::ElementsAre;

// Entries outside of a ledger.
class Entries {
 public:
  LedgerEntry& Make(const std::string& tenant, int32_t priority = 0, double weight = 1) {
    auto& request = requests_.emplace_back(std::make_unique<LedgerRequest>());
    request->tenant = tenant;
    request->weight = weight;
    auto entry = std::make_unique<LedgerEntry>(
        LedgerEntry{.id = ++last_id_, .request = request.get(), .text = {nullptr, {}, {}, 0}});
    entry->sequence.priority = priority;
    return *(all_[last_id_] = std::move(entry));
  }
  LedgerEntry& operator[](uint64_t id) { return *all_.at(id); }

 private:
  uint64_t last_id_ = 0;
  std::vector<std::unique_ptr<LedgerRequest>> requests_;
  std::map<uint64_t, std::unique_ptr<LedgerEntry>> all_;
};

// The order in which everything would be served if each entry took `tokens`.
std::vector<uint64_t> ServeAll(FairQueue& queue, Entries& entries, double tokens) {
  std::vector<uint64_t> order;
  queue.Offer([] { return true; },
              [&](uint64_t id) {
                order.push_back(id);
                queue.Enter(entries[id]);
                queue.Charge(entries[id], tokens);
                queue.Erase(entries[id]);
              });
  return order;
}

TEST(FairQueueTest, ATenantIsServedByPriorityThenAge) {
  Entries entries;
  FairQueue queue;
  for (int32_t priority : {0, 1, 0, 2}) queue.Insert(entries.Make("a", priority));
  EXPECT_THAT(ServeAll(queue, entries, 1), ElementsAre(4, 2, 1, 3));
  EXPECT_EQ(queue.size(), 0u);
}

TEST(FairQueueTest, AFloodDoesNotDelayTheOthers) {
  Entries entries;
  FairQueue queue;
  for (int i = 0; i < 4; ++i) queue.Insert(entries.Make("flood"));
  queue.Insert(entries.Make("b"));
  queue.Insert(entries.Make("c"));
  EXPECT_THAT(ServeAll(queue, entries, 10), ElementsAre(5, 6, 1, 2, 3, 4));
}

TEST(FairQueueTest, AHeavierTenantIsServedMoreOften) {
  Entries entries;
  FairQueue queue;
  for (int i = 0; i < 3; ++i) queue.Insert(entries.Make("a", 0, 1));
  for (int i = 0; i < 4; ++i) queue.Insert(entries.Make("b", 0, 2));
  EXPECT_THAT(ServeAll(queue, entries, 10), ElementsAre(1, 4, 5, 2, 6, 7, 3));
}

TEST(FairQueueTest, WhoWasIdleHasNoClaimOnWhatItDidNotAskFor) {
  Entries entries;
  FairQueue queue;
  for (int i = 0; i < 50; ++i) queue.Insert(entries.Make("a"));
  ServeAll(queue, entries, 10);
  for (int i = 0; i < 3; ++i) queue.Insert(entries.Make("a"));
  for (int i = 0; i < 3; ++i) queue.Insert(entries.Make("b"));
  // Not all of b's first: b starts where a is.
  EXPECT_THAT(ServeAll(queue, entries, 10), ElementsAre(54, 51, 55, 52, 56, 53));
}

TEST(FairQueueTest, PassesOverWhatCannotBeTaken) {
  Entries entries;
  FairQueue queue;
  for (int i = 0; i < 3; ++i) queue.Insert(entries.Make("a"));
  queue.Insert(entries.Make("b"));
  std::vector<uint64_t> offered;
  queue.Offer([] { return true; }, [&](uint64_t id) { offered.push_back(id); });
  EXPECT_THAT(offered, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(queue.size(), 4u);
}

TEST(FairQueueTest, IsIdleOnceNothingIsInService) {
  Entries entries;
  FairQueue queue;
  LedgerEntry& entry = entries.Make("a");
  queue.Insert(entry);
  EXPECT_FALSE(queue.idle());
  queue.Enter(entry);
  queue.Erase(entry);
  EXPECT_FALSE(queue.idle());
  queue.Leave(entry);
  EXPECT_TRUE(queue.idle());
}

TEST(FairQueueTest, SuspectsAreNotOffered) {
  Entries entries;
  FairQueue queue;
  LedgerEntry& suspect = entries.Make("a");
  suspect.losses = 2;
  queue.Insert(suspect);
  queue.Insert(entries.Make("a"));
  EXPECT_THAT(queue.suspects(), ElementsAre(1));
  EXPECT_THAT(queue.entries(), ElementsAre(1, 2));
  EXPECT_THAT(ServeAll(queue, entries, 1), ElementsAre(2));
  EXPECT_EQ(queue.size(), 1u);
}

// Tenants that always want more, on `n_rows` rows that take a token of each request per step. What
// each was served, by its weight, never differs by more than one largest request for each row, and
// nobody starves.
void Simulate(int n_rows, uint64_t seed) {
  SCOPED_TRACE(StrCat(n_rows, " rows, seed ", seed));
  constexpr int kLargest = 200;  // tokens of a request
  const std::vector<std::pair<std::string, double>> kTenants = {{"a", 1}, {"b", 1}, {"c", 3}};
  std::mt19937_64 rng(seed);
  const auto below = [&](int n) { return std::uniform_int_distribution<int>(0, n - 1)(rng); };
  Entries entries;
  FairQueue queue;
  std::map<uint64_t, int> length, left;
  std::map<std::string, double> served;
  std::map<std::string, size_t> waiting;
  for (int step = 0; step < 4000; ++step) {
    for (const auto& [tenant, weight] : kTenants) {
      for (size_t n = waiting[tenant]; n < (tenant == "a" ? 40u : 4u); ++n) {  // a floods
        ++waiting[tenant];
        LedgerEntry& entry = entries.Make(tenant, below(3), weight);
        length[entry.id] = tenant == "b" ? kLargest : 1 + below(kLargest);
        queue.Insert(entry);
      }
    }
    queue.Offer([&] { return left.size() < static_cast<size_t>(n_rows); },
                [&](uint64_t id) {
                  queue.Enter(entries[id]);
                  queue.Erase(entries[id]);
                  --waiting[entries[id].request->tenant];
                  left[id] = length[id];
                });
    for (auto it = left.begin(); it != left.end();) {
      LedgerEntry& entry = entries[it->first];
      queue.Charge(entry, 1);
      served[entry.request->tenant] += 1 / entry.request->weight;
      if (--it->second == 0) queue.Leave(entry);
      it = it->second == 0 ? left.erase(it) : std::next(it);
    }
    for (const auto& [a, wa] : kTenants) {
      for (const auto& [b, wb] : kTenants) {
        ASSERT_LE(std::abs(served[a] - served[b]), double{kLargest} * n_rows) << "step " << step;
      }
    }
  }
}

TEST(FairQueueTest, ServiceStaysWithinALargestRequestForEachRow) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    Simulate(1, seed);
    Simulate(8, seed);
  }
}

}  // namespace
}  // namespace trireme
