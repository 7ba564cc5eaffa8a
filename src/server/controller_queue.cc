// The controller's queue: requests that no replica has.
#include <utility>

#include "base/check.h"
#include "server/controller.h"

namespace trireme {

namespace {

std::tuple<bool, int64_t, uint64_t> PlaceOf(const LedgerEntry& entry) {
  return {!entry.suspect(), -int64_t{entry.sequence.priority}, entry.id};
}

}  // namespace

void Controller::Enqueue(Time now, LedgerEntry& entry) {
  queues_[entry.model()].insert(PlaceOf(entry));
  entry.next_waiting = now + options_.waiting_interval;
  waits_.emplace(*entry.next_waiting, entry.id);
}

void Controller::Dequeue(LedgerEntry& entry) {
  auto queue = queues_.find(entry.model());
  CHECK(queue != queues_.end());
  CHECK_EQ(queue->second.erase(PlaceOf(entry)), 1u);
  if (queue->second.empty()) queues_.erase(queue);
  waits_.erase({*entry.next_waiting, entry.id});
  entry.next_waiting.reset();
}

// Hands over, by priority and then by age, what the replicas of `model` have room for.
void Controller::Dispatch(Time now, const ModelPtr& model, Actions& out) {
  SendHome(model, out);
  Isolate(now, model, out);
  auto queue = queues_.find(model);
  if (queue == queues_.end()) return;
  auto next = queue->second.begin();
  for (size_t left = queue->second.size(); left > 0 && router_.AnyHasRoom(*model); --left) {
    LedgerEntry& entry = *ledger_.Find(std::get<uint64_t>(*next++));
    if (entry.suspect()) continue;
    LinkedReplica* replica = router_.Pick(entry);
    if (replica == nullptr) continue;  // it waits for one that others cannot replace
    HandOver(now, entry, *replica, out);
  }
}

// A client that has just come is told at once if nobody serves it.
void Controller::DispatchNew(Time now, const LedgerRequest& request, Actions& out) {
  Dispatch(now, request.model, out);
  for (LedgerEntry* entry : request.open) {
    if (!entry->link.has_value() && !router_.AnyServes(*entry)) TellWaiting(now, *entry, out);
  }
}

void Controller::HandOver(Time now, LedgerEntry& entry, LinkedReplica& replica, Actions& out) {
  Dequeue(entry);
  entry.sequence.id = ++last_sequence_id_;
  router_.Assign(entry, replica);
  if (entry.handed_over.has_value()) {
    ++counters_.replayed;
  } else {
    entry.handed_over = now;
    out.push_back(
        Observe{Measure::kQueueTime, entry.model(), Seconds(now - entry.request->arrived)});
  }
  out.push_back(SendSubmit{replica.link, entry.sequence});
}

void Controller::TellWaiting(Time now, LedgerEntry& entry, Actions& out) {
  waits_.erase({*entry.next_waiting, entry.id});
  entry.next_waiting = now + options_.waiting_interval;
  waits_.emplace(*entry.next_waiting, entry.id);
  // Choices that wait together are one news.
  for (const LedgerEntry* choice : entry.request->open) {
    if (choice == &entry) break;
    if (choice->next_waiting.has_value()) return;
  }
  Tell(*entry.request, Waiting{WhyWaiting(entry)}, out);
}

std::string Controller::WhyWaiting(const LedgerEntry& entry) const {
  if (entry.suspect()) {
    return StrCat("its last ", entry.losses, " replicas were lost; it will go on alone");
  }
  if (router_.AnyServes(entry)) return StrCat("every replica of ", entry.model()->name, " is full");
  const std::string what = StrCat("waiting for a replica of ", entry.model()->name);
  if (!entry.pause.has_value()) return what;
  return StrCat(pauses_.at(*entry.pause).what, "; ", what);
}

std::map<std::string, size_t> Controller::n_waiting_by_model() const {
  std::map<std::string, size_t> n;
  for (const auto& [model, queue] : queues_) n[model->name] += queue.size();
  return n;
}

size_t Controller::n_running() const {
  size_t n = 0;
  for (const auto& [link, replica] : router_.replicas()) n += replica.running.size();
  return n;
}

size_t Controller::n_waiting() const {
  size_t n = 0;
  for (const auto& [model, queue] : queues_) n += queue.size();
  return n;
}

}  // namespace trireme
