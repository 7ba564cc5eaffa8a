// The controller's queue: requests that no replica has.
#include <utility>

#include "base/check.h"
#include "server/controller.h"
#include "server/refusal.h"

namespace trireme {

// Whether there is room for one more request. What has ended and waits for clients that may come
// back makes room.
absl::Status Controller::CheckRoom(const GenerateRequest& request, Actions& out) {
  const auto n = static_cast<size_t>(request.n.value_or(1));
  if (ledger_.n_open() + n > options_.max_requests) {
    return Because(kQueueFull, ResourceExhausted(ledger_.n_open(),
                                                 " requests are running or waiting: retry later"));
  }
  const size_t mine = ledger_.n_open(request.tenant);
  if (request.max_tenant_requests > 0 && mine + n > request.max_tenant_requests) {
    return Because(kTenantLimit, ResourceExhausted("tenant ", request.tenant, " has ", mine,
                                                   " of at most ", request.max_tenant_requests,
                                                   " requests running or waiting: retry later"));
  }
  const size_t bytes = n * request.ids.size() * sizeof(int32_t);
  const auto full = [&] { return ledger_.bytes() + bytes > options_.max_ledger_bytes; };
  for (auto it = expiries_.begin(); full() && it != expiries_.end();) {
    LedgerRequest& expiring = *ledger_.FindRequest((it++)->second);
    if (expiring.open.empty()) Release(expiring, out);
  }
  if (!full()) return absl::OkStatus();
  return Because(kLedgerFull, ResourceExhausted("the requests that are running or waiting take ",
                                                ledger_.bytes(), " bytes: retry later"));
}

void Controller::Enqueue(Time now, LedgerEntry& entry) {
  queues_[entry.model()].Insert(entry);
  LeaveService(entry);  // only now: the queue is not idle
  entry.next_waiting = now + options_.waiting_interval;
  waits_.emplace(*entry.next_waiting, entry.id);
}

void Controller::Dequeue(LedgerEntry& entry) {
  auto queue = queues_.find(entry.model());
  CHECK(queue != queues_.end());
  queue->second.Erase(entry);
  if (queue->second.idle()) queues_.erase(queue);
  waits_.erase({*entry.next_waiting, entry.id});
  entry.next_waiting.reset();
}

// Hands over what the replicas of `model` have room for.
void Controller::Dispatch(Time now, const ModelPtr& model, Actions& out) {
  SendHome(model, out);
  Isolate(now, model, out);
  auto queue = queues_.find(model);
  if (queue == queues_.end() || queue->second.size() == 0) return;
  queue->second.Offer([&] { return router_.AnyHasRoom(*model); },
                      [&](uint64_t id) {
                        LedgerEntry& entry = *ledger_.Find(id);
                        if (LinkedReplica* replica = router_.Pick(entry)) {
                          HandOver(now, entry, *replica, out);
                        } else {  // too large for what is left: smaller ones do not overtake it
                          router_.Reserve(entry);
                        }
                      });
  router_.ReleaseAll();
}

// A client that has just come is told at once if nobody serves it.
void Controller::DispatchNew(Time now, const LedgerRequest& request, Actions& out) {
  Dispatch(now, request.model, out);
  for (LedgerEntry* entry : request.open) {
    if (!entry->link.has_value() && !router_.AnyTakes(*entry)) TellWaiting(now, *entry, out);
  }
}

void Controller::HandOver(Time now, LedgerEntry& entry, LinkedReplica& replica, Actions& out) {
  queues_.at(entry.model()).Enter(entry);  // before it leaves the queue, which is not idle then
  entry.in_service = true;
  Dequeue(entry);
  if (!entry.handed_over.has_value()) {
    ChargeTenant(entry, static_cast<double>(entry.sequence.prompt_ids.size()));
  }
  entry.sequence.id = ++last_sequence_id_;
  entry.sequence.tenant = entry.request->tenant;
  entry.sequence.weight = entry.request->weight;
  entry.sequence.alone_ids = replica.isolating ? AloneIds(entry) : 0;
  entry.alone = false;
  router_.Assign(entry, replica);
  if (entry.handed_over.has_value()) {
    ++counters_.replayed;
  } else {
    entry.handed_over = now;
    out.push_back(
        Observe{Measure::kQueueTime, entry.model(), Seconds(now - entry.request->arrived)});
  }
  Note(entry, Progress::kHandedOver, replica.link, out);
  out.push_back(SendSubmit{replica.link, entry.sequence});
}

void Controller::LeaveService(LedgerEntry& entry) {
  if (!std::exchange(entry.in_service, false)) return;
  const auto queue = queues_.find(entry.model());
  queue->second.Leave(entry);
  if (queue->second.idle()) queues_.erase(queue);
}

void Controller::ChargeTenant(LedgerEntry& entry, double tokens) {
  entry.charged += tokens;
  queues_.at(entry.model()).Charge(entry, tokens);
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
  if (router_.AnyTakes(entry)) return StrCat("every replica of ", entry.model()->name, " is full");
  const std::string what = StrCat("waiting for a replica of ", entry.model()->name);
  if (!entry.pause.has_value() && router_.AnyOf(*entry.model())) {
    return StrCat(what, "; those that are linked are drained, or cannot go on with it");
  }
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
