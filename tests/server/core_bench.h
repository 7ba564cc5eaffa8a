// A controller core on the bench: its clock is a number, its replicas are scripted, its clients
// write down what they are told.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/controller.h"
#include "tests/server/client_log.h"
#include "tests/server/scripted_replica.h"

namespace trireme::test {

class CoreBench {
 public:
  explicit CoreBench(ControllerOptions options = {})
      : core(options, [this] { return ++random_; }), options_(options) {}

  // ---- Events.

  uint64_t Generate(GenerateRequest request) {
    const uint64_t key = ++last_key_;
    auto model = registry.Resolve(request.model);
    if (!model.ok()) {
      core.Refuse(key, model.status(), actions_);
    } else {
      core.Generate(now, key, now, *model, std::move(request), actions_);
    }
    Perform();
    return key;
  }

  void Cancel(uint64_t key) {
    core.Cancel(now, key, actions_);
    Perform();
  }

  void Gone(uint64_t key) {
    core.Gone(now, key, actions_);
    Perform();
  }

  // The client of `before` comes back for the rest, on a new stream, with what it holds.
  uint64_t ComeBack(uint64_t before, GenerateRequest request) {
    const uint64_t key = last_key_ + 1;
    ClientLog log = std::move(clients[before]);
    clients.erase(before);
    if (log.accepted.has_value()) {
      request.request_id = log.accepted->id;
      request.resume.emplace();
    }
    for (int32_t i = 0; request.resume.has_value() && i < request.n.value_or(1); ++i) {
      const ChoiceLog& choice = log.choice(static_cast<uint32_t>(i));
      (*request.resume)[static_cast<uint32_t>(i)] = {
          .n_ids = static_cast<int32_t>(choice.ids.size()),
          .text_bytes = static_cast<int64_t>(choice.text.size())};
    }
    log.Forget();
    clients.emplace(key, std::move(log));
    return Generate(std::move(request));
  }

  // The controller ends without a word and is started again with the first `n_records` of its
  // records: clients and replicas have lost it.
  void Restart(size_t n_records) {
    std::vector<LedgerRecord> left(records.begin(),
                                   records.begin() + static_cast<std::ptrdiff_t>(n_records));
    replicas.clear();
    std::destroy_at(&core);
    std::construct_at(&core, options_, [this] { return ++random_; });
    actions_.clear();
    crash_after.reset();
    sequence_ids_.clear();
    for (const LedgerRecord& record : left) {
      if (const auto* model = std::get_if<ModelRecord>(&record)) core.Know(model->model);
    }
    for (RestoredRequest& request : Restore(left)) {
      core.Restore(now, ++last_key_, std::move(request), actions_);
    }
    records = core.Records();
    Perform();
  }

  uint64_t Up(ReplicaInfo info = Info(), uint64_t instance = 0) {
    const uint64_t link = ++last_link_;
    auto model = registry.Prepare(info);
    EXPECT_TRUE(model.ok()) << model.status();
    replicas.emplace(link, info.fingerprint == "f2" ? 2 : 0);  // other weights
    core.ReplicaUp(now, link, instance != 0 ? instance : 1000 + link, info, *model, actions_);
    Perform();
    return link;
  }

  void Down(uint64_t link, const std::string& reason = "killed") {
    replicas.erase(link);
    core.ReplicaDown(now, link, reason, actions_);
    Perform();
  }

  void Report(uint64_t link, StepReport report) {
    core.Report(now, link, std::move(report), actions_);
    Perform();
  }

  // One step of a replica, reported at once.
  void Step(uint64_t link) { Report(link, replicas.at(link).Step()); }

  void Advance(double seconds) {
    const Time until = now + FromSeconds(seconds);
    while (core.NextTick() <= until) {
      now = std::max(now, core.NextTick());
      core.Tick(now, actions_);
      Perform();
    }
    now = until;
  }

  absl::Status Drain(uint64_t link) {
    const absl::Status status = core.Drain(now, link, actions_);
    Perform();
    return status;
  }

  int Abort(const std::string& request_id, std::optional<std::string> tenant = {}) {
    const int n = core.Abort(now, request_id, tenant, actions_);
    Perform();
    return n;
  }

  void Outage(const std::string& why) {
    core.Outage(now, why, actions_);
    Perform();
  }

  void Shutdown(bool stop_replicas) {
    core.Shutdown(now, stop_replicas, actions_);
    Perform();
  }

  // Steps every replica until every client has ended.
  void RunToEnd() {
    for (int i = 0; i < 10000; ++i) {
      if (std::ranges::all_of(clients, [](const auto& c) { return c.second.ended(); }) &&
          std::ranges::all_of(replicas, [](const auto& r) { return r.second.n_running() == 0; })) {
        return;
      }
      std::vector<uint64_t> links;
      for (const auto& [link, replica] : replicas) links.push_back(link);
      for (uint64_t link : links) {
        if (replicas.contains(link)) Step(link);
      }
    }
    FAIL() << "the requests do not end";
  }

  // Streams whose requests the replica of the link has choices of.
  std::vector<uint64_t> KeysOn(uint64_t link) const {
    std::vector<uint64_t> keys;
    for (const std::string& id : core.RequestsOn(core.replicas().at(link))) {
      const auto client = std::ranges::find_if(clients, [&](const auto& c) {
        return c.second.accepted.has_value() && c.second.accepted->id == id;
      });
      keys.push_back(client->first);
    }
    return keys;
  }

  void ExpectEmpty() {
    EXPECT_EQ(core.n_requests(), 0u);
    EXPECT_EQ(core.ledger_bytes(), 0u);
    EXPECT_EQ(core.n_waiting(), 0u);
    for (const auto& [link, replica] : core.replicas()) {
      EXPECT_EQ(replica.tokens_left, 0);
      EXPECT_EQ(replica.kv_tokens, 0);
      EXPECT_TRUE(replica.running.empty());
      EXPECT_TRUE(replica.cancelling.empty());
    }
    EXPECT_EQ(core.NextTick() == Time::max(), core.replicas().empty());
  }

  Time now = Time{} + std::chrono::hours(1);
  ModelRegistry registry;
  Controller core;
  std::map<uint64_t, ScriptedReplica> replicas;                 // by link
  std::map<uint64_t, ClientLog> clients;                        // by key
  std::vector<SequenceRequest> handed_over;                     // everything that was submitted
  std::vector<std::pair<uint64_t, uint64_t>> submits, cancels;  // (link, sequence id)
  std::map<uint64_t, CloseLink> closed;                         // by link
  std::vector<Observe> observed;
  std::vector<std::pair<uint64_t, Progress>> progress;  // by key
  std::map<uint64_t, int32_t> silent;                   // numbers, by link
  std::vector<TellLost> lost;
  std::set<uint64_t> sent_home;  // links
  std::vector<std::string> log;
  std::vector<LedgerRecord> records;  // what a next controller would read
  int n_heartbeats = 0;
  std::optional<size_t> crash_after;  // actions that are still done; then Restart() is due

 private:
  void Perform() {
    Actions actions;
    actions.swap(actions_);
    // Records go to the disk before anything else is done.
    std::ranges::stable_partition(
        actions, [](const Action& a) { return std::holds_alternative<AppendRecord>(a); });
    for (Action& action : actions) {
      if (crash_after.has_value() && (*crash_after)-- == 0) {
        crash_after = 0;
        return;
      }
      std::visit([this](auto& a) { Do(a); }, action);
    }
  }
  void Do(SendRegistered& a) { registry.Publish(a.model); }
  void Do(SendSubmit& a) {
    ASSERT_TRUE(replicas.contains(a.link)) << "sent to a link that is gone";
    ASSERT_TRUE(sequence_ids_.insert(a.sequence.id).second) << "a sequence id is used again";
    submits.emplace_back(a.link, a.sequence.id);
    handed_over.push_back(a.sequence);
    replicas.at(a.link).Submit(std::move(a.sequence));
  }
  void Do(SendCancel& a) {
    ASSERT_TRUE(replicas.contains(a.link)) << "sent to a link that is gone";
    cancels.emplace_back(a.link, a.sequence_id);
    replicas.at(a.link).Cancel(a.sequence_id);
  }
  void Do(SendHeartbeat&) { ++n_heartbeats; }
  void Do(SendShutdown& a) { sent_home.insert(a.link); }
  void Do(CloseLink& a) {
    closed[a.link] = a;
    replicas.erase(a.link);
  }
  void Do(TellClient& a) { clients[a.key].Tell(std::move(a.event)); }
  void Do(TellProgress& a) { progress.emplace_back(a.key, a.progress); }
  void Do(Observe& a) { observed.push_back(std::move(a)); }
  void Do(TellLost& a) {
    log.push_back(a.line);
    if (a.silent) silent[a.link] = a.number;
    lost.push_back(std::move(a));
  }
  void Do(AppendRecord& a) { records.push_back(std::move(a.record)); }
  void Do(WriteLog& a) { log.push_back(a.line); }

  const ControllerOptions options_;
  Actions actions_;
  std::set<uint64_t> sequence_ids_;
  uint64_t last_key_ = 0, last_link_ = 0, random_ = 100;
};

}  // namespace trireme::test
