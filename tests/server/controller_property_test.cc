// The controller core under random schedules: arrivals, steps, late and repeated reports, deaths,
// hangs, redials, faults, cancellations, deadlines, clients that go and come back, controllers that
// end and are started again. Whatever happens, each accepted request ends
// once, with exactly the ids of an undisturbed run, or a beginning of them and a reason why.
#include <deque>
#include <random>

#include "gtest/gtest.h"
#include "tests/server/core_bench.h"

namespace trireme {
namespace {

using test::CoreBench;
using test::Ids;
using test::Info;

struct Expectation {
  std::vector<int32_t> ids;
  std::string text;
  FinishReason reason = FinishReason::kLength;
};

// Straight from the definitions, with the whole text decoded anew for each id.
Expectation Expect(const GenerateRequest& request, uint32_t choice, uint64_t seed, uint64_t weights,
                   const Tokenizer& tokenizer) {
  SequenceRequest sequence;
  sequence.prompt_ids = request.ids;
  sequence.sampling.seed = seed;
  sequence.choice = choice;
  sequence.max_tokens = *request.max_tokens;
  sequence.min_tokens = request.min_tokens.value_or(0);
  sequence.stop_ids = request.stop_token_ids;
  if (!request.ignore_eos) sequence.stop_ids.push_back(test::kEos);
  Expectation e{.ids = test::Undisturbed(sequence, weights)};
  if (e.ids.size() < static_cast<size_t>(*request.max_tokens)) e.reason = FinishReason::kStop;
  for (size_t n = 1; n <= e.ids.size(); ++n) {
    const std::string text = tokenizer.Decode(std::span(e.ids).first(n), true);
    size_t first_end = std::string::npos, start = 0;
    for (const std::string& stop : request.stop) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      const size_t end = at + stop.size();
      if (end < first_end || (end == first_end && at < start)) {
        first_end = end;
        start = at;
      }
    }
    if (first_end == std::string::npos) continue;
    e.ids.resize(n);
    e.text = text.substr(0, start);
    e.reason = FinishReason::kStop;
    return e;
  }
  e.text = tokenizer.Decode(e.ids, true);
  return e;
}

constexpr Duration kComeback = std::chrono::seconds(8);

class Schedule {
 public:
  Schedule(uint64_t seed, bool other_fingerprints)
      : rng_(seed),
        other_fingerprints_(other_fingerprints),
        bench_({.max_requests = 12,
                .replica_timeout = std::chrono::seconds(5),
                .waiting_interval = std::chrono::seconds(2),
                .records = true,
                .comeback = kComeback}) {
    Revive();
  }

  void Run() {
    const int n_events = 20 + Below(100);
    for (int i = 0; i < n_events && !testing::Test::HasFailure(); ++i) {
      const auto before = Running();
      Event();
      CountLosses(before);
    }
    Settle();
    Check();
  }

 private:
  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(rng_); }
  bool OneIn(int n) { return Below(n) == 0; }

  void Event() {
    const int dice = Below(100);
    if (dice < 18) return Arrive();
    if (dice < 50) return Step();
    if (dice < 70) return Deliver();
    if (dice < 75) return Repeat();
    if (dice < 80) return Die();
    if (dice < 85) return Revive();
    if (dice < 88) return Redial();
    if (dice < 90) return Fault();
    if (dice < 93) return Hang();
    if (dice < 95) return Cancel();
    if (dice < 96) return Leave();
    if (dice < 97) return ComeBack();
    if (dice < 98) return Crash();
    if (dice < 99) return Drain();
    bench_.Advance(0.5 * Below(6));
    Heartbeats();
  }

  void Arrive() {
    GenerateRequest request;
    request.model = "tiny";
    for (int i = 1 + Below(5); i > 0; --i) request.ids.push_back(Below(4));
    request.max_tokens = 1 + Below(14);
    if (OneIn(2)) request.seed = Below(50);
    if (OneIn(2)) {
      for (int i = 1 + Below(3); i > 0; --i) request.stop.push_back(RandomText(1 + Below(3)));
    } else if (OneIn(2)) {
      request.min_tokens = Below(*request.max_tokens + 1);
    }
    if (OneIn(3)) request.stop_token_ids.push_back(Below(4));
    request.ignore_eos = OneIn(2);
    request.priority = Below(3);
    if (OneIn(4)) request.n = 1 + Below(3);
    if (OneIn(3)) request.logprobs = 1;
    if (OneIn(3)) request.prompt_logprobs = 1;
    if (OneIn(6)) request.timeout_s = 0.5 * (1 + Below(10));
    if (OneIn(4)) request.detach_s = 1 + Below(10);
    request.request_id = StrCat("r", requests_.size());
    requests_[request.request_id] = request;
    if (OneIn(25)) poison_.insert(request.request_id);
    streams_[request.request_id] = bench_.Generate(request);
  }

  // A request of which there is one, and its id; null before the first.
  const GenerateRequest* AnyRequest() {
    if (requests_.empty()) return nullptr;
    return &std::next(requests_.begin(), Below(static_cast<int>(requests_.size())))->second;
  }

  test::ClientLog& ClientOf(const std::string& id) { return bench_.clients[streams_.at(id)]; }

  // A client's stream breaks.
  void Leave() {
    const GenerateRequest* request = AnyRequest();
    if (request == nullptr || ClientOf(request->request_id).ended()) return;
    bench_.Gone(streams_.at(request->request_id));
    if (request->detach_s.has_value()) away_.emplace(request->request_id, bench_.now);
  }

  // Sometimes while its stream seems to be whole.
  void ComeBack() {
    const GenerateRequest* request = AnyRequest();
    if (request == nullptr) return;
    const std::string& id = request->request_id;
    if (!away_.contains(id) && (ClientOf(id).ended() || !ClientOf(id).accepted)) return;
    ComeBack(id);
  }

  void ComeBack(const std::string& id) {
    const GenerateRequest& request = requests_.at(id);
    const Duration keep = request.detach_s ? FromSeconds(*request.detach_s) : kComeback;
    if (const auto left = away_.find(id); left != away_.end()) {
      if (bench_.now - left->second >= keep) late_.insert(id);
      away_.erase(left);
    }
    streams_[id] = bench_.ComeBack(streams_.at(id), request);
  }

  // The controller ends amid the actions of an event, and another one takes over.
  void Crash() {
    bench_.crash_after = Below(8);
    OneIn(3) ? Arrive() : Deliver();
    bench_.Restart(bench_.records.size());
    wire_.clear();
    last_.clear();
    hung_.clear();
    for (const auto& [id, stream] : streams_) {
      if (!bench_.clients[stream].ended()) away_.emplace(id, bench_.now);
    }
  }

  std::string RandomText(int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += static_cast<char>('a' + Below(4));
    return text;
  }

  // A link that is up and not hung, or 0.
  uint64_t AnyLink() {
    std::vector<uint64_t> links;
    for (const auto& [link, replica] : bench_.replicas) {
      if (!hung_.contains(link)) links.push_back(link);
    }
    return links.empty() ? 0 : links[Below(static_cast<int>(links.size()))];
  }

  // Which requests each link has.
  std::map<uint64_t, std::vector<std::string>> Running() const {
    std::map<uint64_t, std::vector<std::string>> ids;
    for (const auto& [link, replica] : bench_.core.replicas()) {
      ids[link] = bench_.core.RequestsOn(replica);
    }
    return ids;
  }

  // Replicas that are lost together may have had the same request one after the other.
  void CountLosses(const std::map<uint64_t, std::vector<std::string>>& before) {
    std::set<std::string> disturbed;
    int n_lost = 0;
    for (const auto& [link, ids] : before) {
      if (bench_.core.replicas().contains(link)) continue;
      ++n_lost;
      disturbed.insert(ids.begin(), ids.end());
    }
    for (const std::string& id : disturbed) n_losses_[id] += n_lost;
  }

  // A replica that runs a request which ends replicas does not live to report its step.
  bool RunsPoison(uint64_t link) {
    if (!bench_.core.replicas().contains(link)) return false;
    return std::ranges::any_of(bench_.core.RequestsOn(bench_.core.replicas().at(link)),
                               [&](const std::string& id) { return poison_.contains(id); });
  }

  void Step() {
    const uint64_t link = AnyLink();
    if (link == 0) return;
    test::ScriptedReplica& replica = bench_.replicas.at(link);
    StepReport report;
    if (replica.AwaitsAlone()) {  // told before the step that it may not outlive
      report = replica.Step([] { return 0; });
    } else if (RunsPoison(link)) {
      return bench_.Down(link);
    } else {
      report = replica.Step([&] { return Below(4); });
    }
    if (OneIn(6)) report.credits = {.sequences = Below(5), .kv_tokens = Below(40)};
    wire_[link].push_back(std::move(report));
  }

  void Deliver() {
    const uint64_t link = AnyLink();
    if (link == 0 || wire_[link].empty()) return;
    last_[link] = wire_[link].front();
    bench_.Report(link, wire_[link].front());
    wire_[link].pop_front();
  }

  void Repeat() {
    if (const uint64_t link = AnyLink(); link != 0 && last_.contains(link)) {
      bench_.Report(link, last_.at(link));
    }
  }

  void Die() {
    const uint64_t link = AnyLink();
    if (link == 0) return;
    bench_.Down(link);
    if (OneIn(2)) {  // what was on the wire comes all the same, too late
      for (StepReport& report : wire_[link]) bench_.Report(link, std::move(report));
    }
  }

  std::string Fingerprint() { return other_fingerprints_ && OneIn(3) ? "f2" : "f1"; }

  void Revive() {
    if (bench_.replicas.size() >= 3) return;
    auto info = Info("tiny", Fingerprint());
    info.credits = {.sequences = 1 + Below(4), .kv_tokens = 5 + Below(60)};
    bench_.Up(info);
  }

  // The same process on a new link, while the old link may still seem to be up.
  void Redial() {
    const uint64_t link = AnyLink();
    if (link == 0 || !bench_.core.replicas().contains(link)) return;
    const auto& replica = bench_.core.replicas().at(link);
    ReplicaInfo info = replica.info;
    info.tokenizer_json = test::TokenizerJson();
    bench_.Up(info, replica.instance);
  }

  // A replica that is sent home leaves, sooner or later.
  void Drain() {
    const uint64_t link = AnyLink();
    if (link == 0 || !bench_.core.replicas().contains(link)) return;
    EXPECT_TRUE(bench_.Drain(link).ok());
    if (bench_.sent_home.contains(link) && OneIn(2)) bench_.Down(link);
  }

  void Fault() {
    const uint64_t link = AnyLink();
    if (link == 0 || !bench_.core.replicas().contains(link)) return;
    const auto& running = bench_.core.replicas().at(link).running;
    if (running.empty()) return;
    SequenceDelta gap{.id = running.begin()->first, .offset = 50, .ids = {1}};
    bench_.Report(link, {.deltas = {gap}});
    EXPECT_TRUE(bench_.closed.contains(link));
  }

  void Hang() {
    if (const uint64_t link = AnyLink()) hung_.insert(link);
  }

  void Cancel() {
    if (const auto* request = AnyRequest()) bench_.Cancel(streams_.at(request->request_id));
  }

  void Heartbeats() {
    for (const auto& [link, replica] : bench_.replicas) {
      if (!hung_.contains(link)) bench_.core.Heartbeat(bench_.now, link);
    }
  }

  // The disturbance ends: hung replicas are found out, wires are emptied, everything runs to its
  // end.
  void Settle() {
    for (const auto& [id, since] : std::map(away_)) ComeBack(id);
    LoseDrained();
    bench_.Up(Info("tiny", "f1"));
    for (int i = 0; i < 12; ++i) {
      const auto before = Running();
      Heartbeats();
      bench_.Advance(0.5);
      CountLosses(before);
    }
    for (uint64_t link : hung_) EXPECT_FALSE(bench_.replicas.contains(link)) << "a hang unnoticed";
    bench_.Up(Info("tiny", "f1"));  // what waits for another fingerprint gives up
    for (auto& [link, reports] : wire_) {
      for (StepReport& report : reports) bench_.Report(link, std::move(report));
      bench_.Report(link, {.credits = Credits{.sequences = 5, .kv_tokens = 1024}});
    }
    RunToEnd();
  }

  // What only they could go on with is to wait for those that come.
  void LoseDrained() {
    const auto before = Running();
    for (const auto& [link, replica] : std::map(bench_.core.replicas())) {
      if (replica.draining) bench_.Down(link);
    }
    CountLosses(before);
  }

  void RunToEnd() {
    for (int i = 0; i < 100 && !poison_.empty() && bench_.core.n_requests() > 0; ++i) {
      std::vector<uint64_t> links;
      for (const auto& [link, replica] : bench_.replicas) links.push_back(link);
      for (uint64_t link : links) {
        const auto before = Running();
        if (!bench_.replicas.contains(link)) continue;
        if (RunsPoison(link) && !bench_.replicas.at(link).AwaitsAlone()) {
          bench_.Down(link);
          bench_.Up(Info("tiny", "f1"));
        } else {
          const bool told = bench_.replicas.at(link).AwaitsAlone();
          bench_.Report(link, bench_.replicas.at(link).Step([told] { return told ? 0 : 1; }));
        }
        CountLosses(before);
      }
    }
    bench_.RunToEnd();
    for (int i = 0; i < 5; ++i) {  // until no client is waited for any more
      Heartbeats();
      bench_.Advance(3);
    }
  }

  void Check() {
    bench_.ExpectEmpty();
    for (const auto& [id, request] : requests_) {
      SCOPED_TRACE(StrCat("request ", id));
      test::ClientLog& client = ClientOf(id);
      ASSERT_TRUE(client.ended());
      if (!client.accepted.has_value()) {
        EXPECT_TRUE(client.error->code() == absl::StatusCode::kResourceExhausted ||
                    (client.error->code() == absl::StatusCode::kNotFound && late_.contains(id)))
            << *client.error;
        continue;
      }
      for (uint32_t i = 0; i < static_cast<uint32_t>(request.n.value_or(1)); ++i) {
        SCOPED_TRACE(StrCat("choice ", i));
        CheckChoice(request, client, i);
      }
      if (client.error) {
        const auto code = client.error->code();
        EXPECT_TRUE(
            code == absl::StatusCode::kCancelled ||
            (code == absl::StatusCode::kDeadlineExceeded && client.ids.empty()) ||
            (code == absl::StatusCode::kAborted && other_fingerprints_) ||
            (code == absl::StatusCode::kInternal && (poison_.contains(id) || n_losses_[id] >= 4)))
            << *client.error;
      }
    }
    const RequestCounters& n = bench_.core.counters();
    EXPECT_EQ(n.accepted, n.finished + n.failed + n.cancelled);
  }

  void CheckChoice(const GenerateRequest& request, test::ClientLog& client, uint32_t i) {
    const auto model = bench_.registry.Resolve("tiny");
    const test::ChoiceLog& choice = client.choice(i);
    const auto with = [&](uint64_t weights) {
      return Expect(request, i, client.accepted->seed, weights, *(*model)->tokenizer);
    };
    const bool complete = choice.finished && choice.finished->reason != FinishReason::kDeadline;
    const auto agrees = [&](const Expectation& e) {
      return complete ? choice.ids == e.ids
                      : choice.ids.size() <= e.ids.size() &&
                            std::equal(choice.ids.begin(), choice.ids.end(), e.ids.begin());
    };
    auto expected = with(0);
    if (other_fingerprints_ && !agrees(expected)) expected = with(2);  // all from the others
    EXPECT_TRUE(agrees(expected));
    if (request.logprobs.has_value()) {
      ASSERT_EQ(choice.logprobs.size(), choice.ids.size());
      for (size_t n = 0; n < choice.ids.size(); ++n) {
        EXPECT_EQ(choice.logprobs[n], test::LogprobsOf(choice.ids[n], n));
      }
    }
    if (!complete) return;
    EXPECT_EQ(choice.prompt_logprobs.size(),
              request.prompt_logprobs.has_value() ? request.ids.size() - 1 : 0);
    EXPECT_EQ(choice.text, expected.text);
    EXPECT_EQ(choice.finished->reason, expected.reason);
  }

  std::mt19937_64 rng_;
  const bool other_fingerprints_;
  CoreBench bench_;
  std::map<std::string, GenerateRequest> requests_;  // by id
  std::map<std::string, uint64_t> streams_;          // by id: the client's present stream
  std::map<std::string, Time> away_;                 // by id: when its client lost the stream
  std::set<std::string> late_;                       // whose client came back too late
  std::map<uint64_t, std::deque<StepReport>> wire_;  // by link: stepped, not delivered
  std::map<uint64_t, StepReport> last_;              // by link: delivered last
  std::set<uint64_t> hung_;                          // links
  std::set<std::string> poison_;                     // ids
  std::map<std::string, int> n_losses_;              // by id: replicas lost that had it
};

// Schedules in blocks, so that they run beside each other: 100,000 in all, fewer where a sanitizer
// makes each of them slow.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kBlockSize = 250;
#else
constexpr int kBlockSize = 5000;
#endif

class ControllerPropertyTest : public testing::TestWithParam<int> {
 protected:
  void RunBlock(bool other_fingerprints) {
    for (int i = 0; i < kBlockSize; ++i) {
      const int seed = GetParam() * kBlockSize + i;
      SCOPED_TRACE(StrCat("schedule ", seed));
      Schedule(static_cast<uint64_t>(seed), other_fingerprints).Run();
      if (testing::Test::HasFailure()) return;
    }
  }
};

TEST_P(ControllerPropertyTest, NothingIsLostOrRepeated) { RunBlock(false); }
TEST_P(ControllerPropertyTest, OnlyEqualFingerprintsGoOn) { RunBlock(true); }
INSTANTIATE_TEST_SUITE_P(Blocks, ControllerPropertyTest, testing::Range(0, 10));

}  // namespace
}  // namespace trireme
