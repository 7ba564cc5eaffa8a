// The controller's replicas: they come, fall silent, are lost; their requests go on elsewhere.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/check.h"
#include "server/controller.h"

namespace trireme {
namespace {

std::string NameOf(const LinkedReplica& replica) {
  std::string name = "replica ";
  if (replica.info.number >= 0) name += StrCat(replica.info.number, " ");
  name += StrCat("of ", replica.info.model, " (link ", replica.link);
  if (!replica.info.hosts.empty() && !replica.info.rank_pids.empty()) {
    name += StrCat(", ", replica.info.hosts[0], " pid ", replica.info.rank_pids[0]);
  }
  return name + ")";
}

// ": a, b, c …"
std::string Names(const std::vector<std::string>& ids) {
  constexpr size_t kMostNames = 16;
  std::string names;
  for (size_t i = 0; i < std::min(ids.size(), kMostNames); ++i) {
    names += (i == 0 ? ": " : ", ") + ids[i];
  }
  return names + (ids.size() > kMostNames ? " …" : "");
}

}  // namespace

void Controller::ReplicaUp(Time now, uint64_t link, uint64_t instance, ReplicaInfo info,
                           ModelPtr model, Actions& out) {
  if (shut_down_) {
    out.push_back(CloseLink{link, "the controller is shutting down", /*rejected=*/false});
    return;
  }
  if (LinkedReplica* older = router_.FindInstance(instance)) {
    const std::string reason = "it has dialled again";
    out.push_back(CloseLink{older->link, reason, /*rejected=*/false});
    Lose(now, *older, reason, Loss::kRedialled, out);
  }
  ModelPtr& known = models_[model->name];
  const ModelPtr before = known;
  if (known == nullptr) known = model;
  if (const std::string difference = Difference(*known, *model); difference.empty()) {
    model = known;
  } else if (router_.AnyOf(*known)) {
    out.push_back(CloseLink{link,
                            StrCat("another replica serves ", model->name, " with a different ",
                                   difference, ": give one of them another --served-model-name"),
                            /*rejected=*/true});
    return;
  } else {
    known = model;
  }
  if (known != before) Record(ModelRecord{known}, out);

  outage_.reset();
  info.tokenizer_json.clear();  // the model has them
  info.tokenizer_config_json.clear();
  info.chat_template.clear();
  const Credits credits = info.credits;
  LinkedReplica& replica = router_.Add({.link = link,
                                        .instance = instance,
                                        .info = std::move(info),
                                        .model = std::move(model),
                                        .last_heard = now,
                                        .credits = credits});
  if (next_beat_ == Time::max()) next_beat_ = now + options_.heartbeat_interval;
  out.push_back(SendRegistered{link, replica.model});
  out.push_back(WriteLog{
      false, StrCat(NameOf(replica), " is ready: tp ", replica.info.tp, ", pp ", replica.info.pp,
                    ", ", replica.info.dtype, ", ", replica.info.device)});
  AbortUnservable(now, replica, out);
  Acquit(replica.model, instance);
  Dispatch(now, replica.model, out);
}

absl::Status Controller::Drain(Time now, uint64_t link, Actions& out) {
  LinkedReplica* replica = router_.Find(link);
  if (replica == nullptr) return NotFound("no replica is linked as ", link);
  if (!std::exchange(replica->draining, true)) {
    out.push_back(WriteLog{false, StrCat(NameOf(*replica), " is drained: it finishes its ",
                                         replica->running.size(), " sequences and leaves")});
  }
  const ModelPtr model = replica->model;
  Dispatch(now, model, out);
  return absl::OkStatus();
}

// Those that are drained and have finished.
void Controller::SendHome(const ModelPtr& model, Actions& out) {
  for (auto& [link, replica] : router_.replicas()) {
    if (replica.model != model || !replica.draining || !replica.IsEmpty()) continue;
    if (!std::exchange(replica.sent_home, true)) out.push_back(SendShutdown{link});
  }
}

void Controller::Outage(Time now, const std::string& why, Actions& out) {
  outage_ = why;
  std::set<uint64_t> stranded;
  for (const auto& [model, queue] : queues_) {
    for (uint64_t id : queue.entries()) {
      const LedgerEntry& entry = *ledger_.Find(id);
      if (!router_.AnyServes(entry)) stranded.insert(entry.request->key);
    }
  }
  for (uint64_t key : stranded) {
    Fail(now, *ledger_.FindRequest(key), Unavailable("no replica: ", why), out);
  }
}

std::map<std::string, size_t> Controller::ReadyReplicas() const {
  std::map<std::string, size_t> ready;
  for (const auto& [name, model] : models_) ready[name] = 0;
  if (closed_) return ready;
  for (const auto& [link, replica] : router_.replicas()) {
    if (!replica.draining) ++ready[replica.model->name];
  }
  return ready;
}

std::vector<std::string> Controller::RequestsOn(const LinkedReplica& replica) const {
  std::map<uint64_t, std::string> ids;  // by key
  for (const auto& [sequence, id] : replica.running) {
    const LedgerRequest& request = *ledger_.Find(id)->request;
    ids[request.key] = request.request_id;
  }
  std::vector<std::string> in_order;
  for (auto& [key, id] : ids) in_order.push_back(std::move(id));
  return in_order;
}

void Controller::ReplicaDown(Time now, uint64_t link, const std::string& reason, Actions& out) {
  if (LinkedReplica* replica = router_.Find(link)) Lose(now, *replica, reason, Loss::kDied, out);
}

// Requests of the newcomer's name that waited for a replica, and that neither it nor any other can
// go on with.
void Controller::AbortUnservable(Time now, const LinkedReplica& newcomer, Actions& out) {
  std::map<uint64_t, std::string> unservable;  // why, by request
  for (const auto& [model, queue] : queues_) {
    if (model->name != newcomer.model->name) continue;
    for (uint64_t id : queue.entries()) {
      const LedgerEntry& entry = *ledger_.Find(id);
      if (router_.AnyServes(entry)) continue;
      std::string& why = unservable[entry.request->key];
      why = "has another tokenizer or a smaller context";
      if (!entry.fingerprint.empty() && entry.fingerprint != newcomer.info.fingerprint) {
        why = StrCat("has fingerprint ", newcomer.info.fingerprint, ", not ", entry.fingerprint);
      }
    }
  }
  for (const auto& [key, why] : unservable) {
    Fail(now, *ledger_.FindRequest(key),
         absl::AbortedError(StrCat("the replica was lost, and the one that came ", why,
                                   ": it would not go on with the same tokens")),
         out);
  }
}

void Controller::Lose(Time now, LinkedReplica& replica, const std::string& reason, Loss loss,
                      Actions& out) {
  const uint64_t link = replica.link;
  const uint64_t instance = replica.instance;
  const int32_t number = replica.info.number;
  const int64_t plans_committed = replica.stats.steps;
  const bool isolating = replica.isolating;
  const bool sent_home = replica.sent_home;
  const std::string name = NameOf(replica);
  const ModelPtr model = replica.model;
  const std::string what = StrCat(name, " lost: ", reason);
  std::vector<uint64_t> ids;
  for (const auto& [sequence, id] : replica.running) ids.push_back(id);
  std::ranges::sort(ids);
  const std::vector<std::string> requests = RequestsOn(replica);
  router_.Erase(link);
  if (router_.replicas().empty()) next_beat_ = Time::max();
  if (shut_down_) return;  // there are no requests any more
  if (sent_home) {
    out.push_back(WriteLog{false, StrCat(name, " has left")});
    return Dispatch(now, model, out);
  }
  ++counters_.replicas_lost;
  out.push_back(
      TellLost{.link = link,
               .number = number,
               .line = StrCat(what, "; it had ", requests.size(), " requests", Names(requests)),
               .reason = reason,
               .plans_committed = plans_committed,
               .silent = loss == Loss::kSilent,
               .requests = requests});

  for (uint64_t id : ids) {
    LedgerEntry& entry = *ledger_.Find(id);
    router_.Release(entry, /*cancelled=*/false);
    Note(entry, Progress::kReplicaLost, link, out);
    if (!entry.pause.has_value()) {
      entry.pause = link;
      Pause& pause = pauses_[link];
      pause.since = now;
      pause.what = what;
      ++pause.left;
    }
    const bool alone = isolating && entry.suspect() && ids.size() == 1 && entry.alone;
    if (loss != Loss::kRedialled) CountLoss(entry, instance, alone);
    Enqueue(now, entry);
  }
  for (uint64_t id : ids) {
    LedgerEntry* entry = ledger_.Find(id);
    if (entry != nullptr && !entry->ended()) FailPoison(now, *entry, what, out);
  }
  Dispatch(now, model, out);
  for (uint64_t id : ids) {
    LedgerEntry* entry = ledger_.Find(id);
    if (entry != nullptr && entry->next_waiting.has_value()) TellWaiting(now, *entry, out);
  }
}

// The request goes on (its next id has come), or has ended.
void Controller::EndPause(Time now, LedgerEntry& entry, bool resumed, Actions& out) {
  if (!entry.pause.has_value()) return;
  auto it = pauses_.find(*entry.pause);
  Pause& pause = it->second;
  entry.pause.reset();
  if (resumed) {
    ++pause.resumed;
    pause.longest = std::max(pause.longest, now - pause.since);
  }
  if (--pause.left > 0) return;
  if (pause.resumed > 0) {
    out.push_back(WriteLog{
        false, StrCat(pause.what, "; its ", pause.resumed, " requests went on after a pause of ",
                      Seconds(pause.longest), " s")});
  }
  pauses_.erase(it);
}

// A heartbeat for each link, and the end of those that were silent.
void Controller::Beat(Time now, Actions& out) {
  if (now < next_beat_) return;
  // A controller that was itself stopped for a while has heard nobody, which is not their fault.
  const Duration late = now - next_beat_;
  next_beat_ = now + options_.heartbeat_interval;
  std::vector<uint64_t> silent;
  for (auto& [link, replica] : router_.replicas()) {
    if (late > options_.heartbeat_interval) replica.last_heard += late;
    if (now - replica.last_heard > options_.replica_timeout) {
      silent.push_back(link);
    } else {
      out.push_back(SendHeartbeat{link});
    }
  }
  for (uint64_t link : silent) {
    const std::string reason =
        StrCat("nothing heard for ", Seconds(options_.replica_timeout), " s");
    LinkedReplica& replica = *router_.Find(link);
    out.push_back(CloseLink{link, reason, /*rejected=*/false});
    Lose(now, replica, reason, Loss::kSilent, out);
  }
}

void Controller::Heartbeat(Time now, uint64_t link) {
  if (LinkedReplica* replica = router_.Find(link)) replica->last_heard = now;
}

}  // namespace trireme
