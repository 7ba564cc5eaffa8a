// Requests that may be what ends their replicas. One that two lost replicas in a row had is a
// suspect: it goes on alone, on a replica that is given nothing else and runs nothing of other
// controllers beside it, until it is past the point where they ended; then it is like any other.
// One that ends two replicas alone is failed.
#include <algorithm>
#include <vector>

#include "server/controller.h"

namespace trireme {
namespace {

constexpr int kMostLossesAlone = 2;

// Ids beyond the last loss that clear a request: more than may have been drawn there and not been
// reported any more.
constexpr int32_t kPastTheLoss = 8;

}  // namespace

void Controller::CountLoss(LedgerEntry& entry, uint64_t instance, bool alone) {
  if (alone) ++entry.losses_alone;
  ++entry.losses;
  entry.last_loss = {instance, alone};
  entry.lost_at = entry.n_emitted();
}

// The process has dialled again: its link had broken, and none of its requests had ended it.
void Controller::Acquit(const ModelPtr& model, uint64_t instance) {
  for (uint64_t key : ledger_.Keys()) {
    LedgerRequest& request = *ledger_.FindRequest(key);
    if (request.model != model) continue;
    for (LedgerEntry* entry : request.open) {
      if (!entry->last_loss.has_value() || entry->last_loss->instance != instance) continue;
      const bool waits = entry->next_waiting.has_value();
      if (waits) queues_.at(model).Erase(*entry);
      --entry->losses;
      if (entry->last_loss->alone) --entry->losses_alone;
      entry->last_loss.reset();
      if (waits) queues_.at(model).Insert(*entry);
    }
  }
}

// Longer than it is a suspect: when others join it, it is known not to be one.
int32_t Controller::AloneIds(const LedgerEntry& entry) { return entry.lost_at + 2 * kPastTheLoss; }

void Controller::CountProgress(LedgerEntry& entry) {
  if (entry.n_emitted() < entry.lost_at + kPastTheLoss) return;
  entry.losses = entry.losses_alone = 0;
  entry.last_loss.reset();
}

// The entry is in the queue.
void Controller::FailPoison(Time now, LedgerEntry& entry, const std::string& what, Actions& out) {
  if (entry.losses_alone < kMostLossesAlone) return;
  const std::string why = StrCat("request ", entry.request->request_id, " ended ", entry.losses,
                                 " replicas in a row, the last ", entry.losses_alone,
                                 " while it ran alone, and is not tried again; the last: ", what);
  out.push_back(WriteLog{true, why});
  Fail(now, *entry.request, Internal(why), out);
}

// Gives each waiting suspect a replica of its own, if one can be had, one after the other; at most
// one replica is taken from the others, unless suspects differ in which ones serve them.
void Controller::Isolate(Time now, const ModelPtr& model, Actions& out) {
  std::vector<LedgerEntry*> suspects;
  if (auto queue = queues_.find(model); queue != queues_.end()) {
    for (uint64_t id : queue->second.suspects()) suspects.push_back(ledger_.Find(id));
  }
  for (auto& linked : router_.replicas()) {
    LinkedReplica& replica = linked.second;
    if (!replica.isolating || replica.model != model) continue;
    replica.isolating =
        std::ranges::any_of(suspects, [&](auto* entry) { return replica.Serves(*entry); }) ||
        std::ranges::any_of(replica.running, [&](const auto& running) {
          return ledger_.Find(running.second)->suspect();
        });
  }
  for (LedgerEntry* entry : suspects) {
    LinkedReplica* replica = router_.PickAlone(*entry);
    if (replica == nullptr) continue;
    replica->isolating = true;
    WithdrawOthers(now, *replica, out);
    if (replica->IsEmpty()) HandOver(now, *entry, *replica, out);
  }
}

// Takes back what the replica has beside a suspect: it goes on elsewhere, or here later.
void Controller::WithdrawOthers(Time now, LinkedReplica& replica, Actions& out) {
  std::vector<uint64_t> ids;
  for (const auto& [sequence, id] : replica.running) {
    if (!ledger_.Find(id)->suspect()) ids.push_back(id);
  }
  std::ranges::sort(ids);
  for (uint64_t id : ids) {
    LedgerEntry& entry = *ledger_.Find(id);
    out.push_back(SendCancel{replica.link, entry.sequence.id});
    router_.Release(entry, /*cancelled=*/true);
    Enqueue(now, entry);
  }
}

}  // namespace trireme
