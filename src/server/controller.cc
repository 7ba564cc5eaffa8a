#include "server/controller.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "server/admission.h"
#include "server/refusal.h"

namespace trireme {

std::string_view FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      return "error";
  }
  return "unknown";
}

Controller::Controller(ControllerOptions options, std::function<uint64_t()> random)
    : options_(options), random_(std::move(random)) {}

// ---- Requests come and are cancelled.

void Controller::Generate(Time now, uint64_t key, Time arrived, ModelPtr model,
                          GenerateRequest request, Actions& out) {
  auto status = Admit(now, key, arrived, std::move(model), request, out);
  if (!status.ok()) Refuse(key, std::move(status), out);
}

void Controller::Refuse(uint64_t key, absl::Status status, Actions& out) {
  CountRefusal(status, out);
  out.push_back(TellClient{key, std::move(status)});
}

void Controller::CountRefusal(const absl::Status& status, Actions& out) {
  ++counters_.refused;
  out.push_back(Observe{Measure::kRefused, nullptr, 1, RefusalReason(status)});
}

absl::Status Controller::Admit(Time now, uint64_t key, Time arrived, ModelPtr model,
                               GenerateRequest& request, Actions& out) {
  auto known = models_.find(model->name);
  if (known == models_.end() || known->second != model) {
    return Unavailable("model ", model->name, " has just been replaced: retry");
  }
  if (!request.request_id.empty()) {
    LedgerRequest* same = ledger_.FindRequest(request.tenant, request.request_id);
    if (same != nullptr) return Attach(now, key, *same, request, out);
  }
  if (closed_) return Unavailable("the controller is shutting down");
  if (request.resume.has_value()) {
    return NotFound("there is no request ", request.request_id, " to go on with");
  }
  if (outage_.has_value() && !router_.AnyOf(*model)) return Unavailable("no replica: ", *outage_);
  ASSIGN_OR_RETURN(SequenceRequest sequence,
                   MakeSequence(request, *model, router_.ContextLength(*model), random_()));
  if (request.request_id.empty()) {
    std::ostringstream id;
    id << "gen-" << std::hex << random_();
    request.request_id = id.str();
  }
  const int32_t n = request.n.value_or(1);
  RETURN_IF_ERROR(CheckRoom(request, out));

  Accepted accepted{.id = request.request_id, .seed = sequence.sampling.seed};
  TellPrompt(*model, request.ids, request, accepted);
  ++counters_.accepted;
  counters_.prompt_tokens += static_cast<int64_t>(request.ids.size());
  out.push_back(Observe{.what = Measure::kPromptTokens,
                        .model = model,
                        .value = static_cast<double>(request.ids.size()),
                        .tenant = request.tenant});
  out.push_back(Observe{Measure::kMaxTokens, model, static_cast<double>(sequence.max_tokens)});
  out.push_back(Observe{Measure::kChoices, model, static_cast<double>(n)});

  LedgerRequest& added =
      ledger_.Add({.key = key,
                   .client = key,
                   .tenant = std::move(request.tenant),
                   .weight = request.weight,
                   .request_id = std::move(request.request_id),
                   .digest = std::move(request.digest),
                   .model = std::move(model),
                   .stops = std::move(request.stop),
                   .arrived = arrived,
                   .detach = request.detach_s.has_value(),
                   .keep = request.detach_s.has_value() ? FromSeconds(*request.detach_s)
                           : options_.records           ? options_.comeback
                                                        : Duration::zero()});
  constexpr double kForever = 1e8;  // seconds; beyond, a time point overflows
  if (request.timeout_s.has_value() && *request.timeout_s < kForever) {
    added.deadline = arrived + FromSeconds(*request.timeout_s);
    deadlines_.emplace(*added.deadline, key);
  }
  for (int32_t choice = 0; choice < n; ++choice) {
    Enqueue(now, AddChoice(added, choice + 1 < n ? sequence : std::move(sequence), choice));
  }
  Record(RecordOf(added), out);
  Tell(added, std::move(accepted), out);
  DispatchNew(now, added, out);
  return absl::OkStatus();
}

// `sequence`: the first choice's.
LedgerEntry& Controller::AddChoice(LedgerRequest& to, SequenceRequest sequence, int32_t choice) {
  constexpr uint64_t kGolden =
      0x9E3779B97F4A7C15;  // far apart; the first choice has the seed itself
  sequence.choice = static_cast<uint32_t>(choice);
  sequence.dropout_seed += kGolden * static_cast<uint64_t>(choice);
  return ledger_.AddChoice(to, std::move(sequence));
}

void Controller::TellPrompt(const ServedModel& model, const std::vector<int32_t>& ids,
                            const GenerateRequest& request, Accepted& accepted) {
  if (request.echo || request.prompt_logprobs.has_value()) accepted.prompt_ids = ids;
  if (!request.echo) return;
  if (request.text.has_value()) {
    accepted.prompt_text = *request.text;
  } else if (model.tokenizer != nullptr) {
    accepted.prompt_text = model.tokenizer->Decode(ids, /*skip_special_tokens=*/false);
  }
}

void Controller::Cancel(Time now, uint64_t key, Actions& out) {
  LedgerRequest* request = ledger_.FindClient(key);
  if (request == nullptr) return;
  const ModelPtr model = request->model;
  Fail(now, *request, absl::CancelledError("cancelled by the client"), out);
  Dispatch(now, model, out);
}

int Controller::Abort(Time now, const std::string& request_id,
                      const std::optional<std::string>& tenant, Actions& out) {
  int n = 0;
  for (uint64_t key : ledger_.KeysOf(request_id)) {
    LedgerRequest& request = *ledger_.FindRequest(key);
    if (request.open.empty() || (tenant.has_value() && *tenant != request.tenant)) continue;
    const ModelPtr model = request.model;
    Fail(now, request, absl::CancelledError("aborted by an operator"), out);
    Dispatch(now, model, out);
    ++n;
  }
  return n;
}

// ---- What replicas report.

void Controller::Report(Time now, uint64_t link, StepReport report, Actions& out) {
  LinkedReplica* replica = router_.Find(link);
  if (replica == nullptr) return;
  replica->last_heard = now;
  replica->stats = report.stats;
  replica->credits = report.credits.value_or(replica->credits);
  for (SequenceDelta& delta : report.deltas) {
    if (auto fault = Apply(now, *replica, delta, out); !fault.ok()) {
      out.push_back(CloseLink{link, Message(fault), /*rejected=*/false});
      Lose(now, *replica, Message(fault), Loss::kDied, out);
      return;
    }
  }
  const ModelPtr model = replica->model;
  Dispatch(now, model, out);
}

absl::Status Controller::Apply(Time now, LinkedReplica& replica, SequenceDelta& delta,
                               Actions& out) {
  auto it = replica.running.find(delta.id);
  if (it == replica.running.end()) {  // it ended here before it did there, or this is a repetition
    if (delta.finish.has_value()) replica.cancelling.erase(delta.id);
    return absl::OkStatus();
  }
  LedgerEntry& entry = *ledger_.Find(it->second);
  const std::vector<int32_t>& have = entry.sequence.emitted_ids;
  const auto fault = [&](const auto&... what) {
    return Internal("protocol fault in sequence ", delta.id, ": ", what...);
  };
  if (delta.offset < 0 || delta.offset > entry.n_emitted()) {
    return fault("ids from ", delta.offset, " on, after ", have.size(), " ids");
  }
  const size_t repeated = std::min(have.size() - delta.offset, delta.ids.size());
  if (!std::equal(delta.ids.begin(), delta.ids.begin() + repeated, have.begin() + delta.offset)) {
    return fault("ids from ", delta.offset, " on come a second time, and differ");
  }
  const std::span<const int32_t> fresh = std::span(delta.ids).subspan(repeated);
  if (have.size() + fresh.size() > static_cast<size_t>(entry.sequence.max_tokens)) {
    return fault("more than max_tokens ", entry.sequence.max_tokens);
  }
  if (delta.logprobs.size() != (entry.sequence.logprobs.has_value() ? delta.ids.size() : 0)) {
    return fault(delta.logprobs.size(), " logprobs of ", delta.ids.size(), " ids");
  }
  const size_t of_prompt =
      entry.sequence.prompt_logprobs.has_value() ? entry.sequence.prompt_ids.size() - 1 : 0;
  if (!delta.prompt_logprobs.empty() && delta.prompt_logprobs.size() != of_prompt) {
    return fault(delta.prompt_logprobs.size(), " logprobs of the prompt");
  }
  for (int32_t id : fresh) {
    if (id < 0 || id >= entry.model()->vocab_size) return fault("id ", id, " of no vocabulary");
  }
  if (delta.finish.has_value() && delta.offset + delta.ids.size() < have.size()) {
    return fault("ended at ", delta.offset + delta.ids.size(), ", after ", have.size(), " ids");
  }

  entry.alone |= delta.alone;
  if (have.empty() && delta.cached_tokens > entry.cached_tokens) {
    const int32_t cached =
        std::min(delta.cached_tokens, static_cast<int32_t>(entry.sequence.prompt_ids.size()));
    ChargeTenant(entry, entry.cached_tokens - cached);
    entry.cached_tokens = cached;
  }
  ChargeTenant(entry, static_cast<double>(fresh.size()));
  if (have.empty() && !delta.prompt_logprobs.empty()) {
    entry.prompt_logprobs = std::move(delta.prompt_logprobs);
    ledger_.Measure(entry);
  }
  if (!fresh.empty()) {
    MeasureIds(now, entry, fresh.size(), out);
    entry.fingerprint = replica.info.fingerprint;
    EndPause(now, entry, /*resumed=*/true, out);
    delta.logprobs.erase(delta.logprobs.begin(),
                         delta.logprobs.end() - std::min(fresh.size(), delta.logprobs.size()));
    if (Emit(now, entry, fresh, delta.logprobs, delta.finish.has_value(), out)) {
      return absl::OkStatus();
    }
    CountProgress(entry);
    router_.Charge(entry, /*prefilled=*/true);
  }
  if (delta.finish.has_value()) EndAsReplicaSays(now, entry, delta, out);
  return absl::OkStatus();
}

void Controller::MeasureIds(Time now, LedgerEntry& entry, size_t n, Actions& out) {
  const auto observe = [&](Measure what, double value) {
    out.push_back(Observe{what, entry.model(), value});
  };
  out.push_back(Observe{.what = Measure::kNewTokens,
                        .model = entry.model(),
                        .value = static_cast<double>(n),
                        .tenant = entry.request->tenant});
  if (entry.first_id.has_value()) {
    observe(Measure::kInterTokenLatency, Seconds(now - *entry.last_id) / static_cast<double>(n));
  } else {
    entry.first_id = now;
    observe(Measure::kTimeToFirstToken, Seconds(now - entry.request->arrived));
    observe(Measure::kPrefillTime, Seconds(now - *entry.handed_over));
  }
  entry.last_id = now;
}

// Adds `ids` to the ledger and tells the client what they bring. True if a stop string has ended
// the request; ids behind the one that completed it are dropped.
bool Controller::Emit(Time now, LedgerEntry& entry, std::span<const int32_t> ids,
                      std::span<const TokenLogprobs> logprobs, bool replica_ended, Actions& out) {
  Delta delta{.choice = entry.sequence.choice, .offset = entry.n_emitted()};
  std::optional<std::string> stop;
  for (int32_t id : ids) {
    entry.sequence.emitted_ids.push_back(id);
    delta.ids.push_back(id);
    ChoiceText::Piece piece = entry.text.Push(id);
    delta.text += piece.text;
    stop = std::move(piece.stop);
    if (stop.has_value()) break;
  }
  logprobs = logprobs.first(std::min(delta.ids.size(), logprobs.size()));
  delta.logprobs.assign(logprobs.begin(), logprobs.end());
  entry.logprobs.insert(entry.logprobs.end(), logprobs.begin(), logprobs.end());
  if (delta.offset == 0) delta.prompt_logprobs = entry.prompt_logprobs;
  counters_.completion_tokens += static_cast<int64_t>(delta.ids.size());
  ledger_.Measure(entry);
  entry.request->any_id = true;
  Record(IdsRecord{entry.request->key, delta.choice, delta.offset, delta.ids, entry.fingerprint,
                   delta.logprobs, delta.prompt_logprobs},
         out);
  Tell(*entry.request, std::move(delta), out);
  if (!stop.has_value()) return false;
  Finish(now, entry, {.reason = FinishReason::kStop, .stop_text = std::move(stop)}, replica_ended,
         out);
  return true;
}

void Controller::EndAsReplicaSays(Time now, LedgerEntry& entry, const SequenceDelta& delta,
                                  Actions& out) {
  const FinishReason reason = *delta.finish;
  if (reason == FinishReason::kError || reason == FinishReason::kCancelled) {
    const std::string why = reason == FinishReason::kError ? delta.error : "cancelled unasked";
    Fail(now, *entry.request, Internal("the replica failed on this request: ", why), out, &entry);
    return;
  }
  Finished finished{.reason = reason};
  if (reason == FinishReason::kStop) finished.stop_id = delta.matched_stop_id;
  TellFlush(entry, finished, out);
  Finish(now, entry, std::move(finished), true, out);
}

// ---- The end of a request.

// Tells the client the text that was held back; with it, a stop string may come to light.
void Controller::TellFlush(LedgerEntry& entry, Finished& finished, Actions& out) {
  ChoiceText::Piece rest = entry.text.Flush();
  Delta delta{
      .choice = entry.sequence.choice, .offset = entry.n_emitted(), .text = std::move(rest.text)};
  if (entry.n_emitted() == 0) delta.prompt_logprobs = entry.prompt_logprobs;
  if (!delta.prompt_logprobs.empty()) {
    Record(IdsRecord{.key = entry.request->key,
                     .choice = delta.choice,
                     .prompt_logprobs = delta.prompt_logprobs},
           out);
  }
  if (!delta.text.empty() || !delta.prompt_logprobs.empty()) {
    Tell(*entry.request, std::move(delta), out);
  }
  if (rest.stop.has_value()) {
    finished.reason = FinishReason::kStop;
    finished.stop_id.reset();
    finished.stop_text = std::move(rest.stop);
  }
}

void Controller::Finish(Time now, LedgerEntry& entry, Finished finished, bool replica_ended,
                        Actions& out) {
  finished.choice = entry.sequence.choice;
  finished.usage = entry.usage();
  finished.timings = entry.timings(now);
  finished.last = entry.request->open.size() == 1;
  const auto observe = [&](Measure what, double value, std::string_view reason = {}) {
    out.push_back(Observe{what, entry.model(), value, reason});
  };
  observe(Measure::kGenerationTokens, finished.usage.completion_tokens);
  if (entry.first_id.has_value()) {
    observe(Measure::kDecodeTime, Seconds(*entry.last_id - *entry.first_id));
    observe(Measure::kInferenceTime, Seconds(*entry.last_id - *entry.handed_over));
  }
  if (entry.n_emitted() > 1) {
    observe(Measure::kTimePerOutputToken, finished.timings.tbt_s_mean);
  }
  if (finished.last) {
    ++counters_.finished;
    observe(Measure::kEndToEnd, finished.timings.total_s);
    int32_t most = 0;
    for (const LedgerEntry* choice : entry.request->choices) {
      most = std::max(most, choice->n_emitted());
    }
    observe(Measure::kMostGenerationTokens, most);
    observe(Measure::kEnded, 1, FinishReasonName(finished.reason));
  }
  LedgerRequest& request = *entry.request;
  Record(FinishedRecord{request.key, finished}, out);
  entry.finished = finished;
  Tell(request, std::move(finished), out);
  Withdraw(now, entry, replica_ended, out);
  if (request.open.empty()) EndRequest(now, request, out);
}

void Controller::Fail(Time now, LedgerRequest& request, absl::Status status, Actions& out,
                      const LedgerEntry* ended_by_replica) {
  const bool cancelled = status.code() == absl::StatusCode::kCancelled;
  ++(cancelled ? counters_.cancelled : counters_.failed);
  out.push_back(Observe{Measure::kEnded, request.model, 1, cancelled ? "abort" : "error"});
  if (!cancelled) Record(FailedRecord{request.key, status}, out);
  request.error = status;
  Tell(request, std::move(status), out);
  for (LedgerEntry* entry : std::vector(request.open)) {
    Withdraw(now, *entry, entry == ended_by_replica, out);
  }
  EndRequest(now, request, out);
}

void Controller::Expire(Time now, LedgerRequest& request, Actions& out) {
  if (!request.any_id) {
    auto status = absl::DeadlineExceededError("timeout_s passed before the first token");
    return Fail(now, request, status, out);
  }
  for (LedgerEntry* entry : std::vector(request.open)) {
    Finished finished{.reason = FinishReason::kDeadline};
    TellFlush(*entry, finished, out);
    Finish(now, *entry, std::move(finished), /*replica_ended=*/false, out);
  }
}

// From its replica or the queue.
void Controller::Withdraw(Time now, LedgerEntry& entry, bool replica_ended, Actions& out) {
  if (entry.link.has_value()) {
    if (!replica_ended) out.push_back(SendCancel{*entry.link, entry.sequence.id});
    router_.Release(entry, /*cancelled=*/!replica_ended);
    LeaveService(entry);
  } else if (entry.next_waiting.has_value()) {
    Dequeue(entry);
  }
  EndPause(now, entry, /*resumed=*/false, out);
  ledger_.Close(entry);
}

// Its choices have ended, and its client, if it has one, has been told so.
void Controller::EndRequest(Time now, LedgerRequest& request, Actions& out) {
  if (request.deadline.has_value()) deadlines_.erase({*request.deadline, request.key});
  ledger_.SetClient(request, 0);
  const bool cancelled = request.error.has_value() && absl::IsCancelled(*request.error);
  if (request.keep == Duration::zero() || cancelled) return Release(request, out);
  Expect(now, request);
}

std::map<Controller::TenantOf, Controller::TenantLoad> Controller::ByTenant() const {
  std::map<TenantOf, TenantLoad> loads;
  if (ledger_.n_open("") == ledger_.n_open()) return loads;
  for (uint64_t key : ledger_.Keys()) {
    const LedgerRequest& request = *ledger_.FindRequest(key);
    if (request.tenant.empty() || request.open.empty()) continue;
    TenantLoad& load = loads[{request.model->name, request.tenant}];
    for (const LedgerEntry* entry : request.open) {
      load.running += entry->link.has_value() ? 1 : 0;
      load.waiting += entry->next_waiting.has_value() ? 1 : 0;
    }
  }
  return loads;
}

void Controller::Tell(const LedgerRequest& request, Event event, Actions& out) {
  if (request.client != 0) out.push_back(TellClient{request.client, std::move(event)});
}

void Controller::Note(const LedgerEntry& entry, Progress::Kind kind, uint64_t link, Actions& out) {
  if (entry.request->client == 0) return;
  out.push_back(TellProgress{entry.request->client, {kind, entry.sequence.choice, link}});
}

// ---- Time, and the end.

void Controller::Tick(Time now, Actions& out) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    LedgerRequest& request = *ledger_.FindRequest(deadlines_.begin()->second);
    const ModelPtr model = request.model;
    Expire(now, request, out);
    Dispatch(now, model, out);
  }
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    LedgerRequest& request = *ledger_.FindRequest(expiries_.begin()->second);
    const ModelPtr model = request.model;
    if (request.open.empty()) {
      Release(request, out);
    } else {
      Fail(now, request, absl::CancelledError("its client did not come back"), out);
    }
    Dispatch(now, model, out);
  }
  while (!waits_.empty() && waits_.begin()->first <= now) {
    TellWaiting(now, *ledger_.Find(waits_.begin()->second), out);
  }
  Beat(now, out);
}

Time Controller::NextTick() const {
  Time next = next_beat_;
  if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
  if (!expiries_.empty()) next = std::min(next, expiries_.begin()->first);
  if (!waits_.empty()) next = std::min(next, waits_.begin()->first);
  return next;
}

void Controller::Shutdown(Time now, bool stop_replicas, Actions& out) {
  closed_ = shut_down_ = true;
  const std::string why = options_.records
                              ? "the controller is shutting down: come back with request_id "
                              : "the controller is shutting down";
  for (uint64_t key : ledger_.Keys()) {
    LedgerRequest& request = *ledger_.FindRequest(key);
    if (request.open.empty()) continue;
    Fail(now, request, Unavailable(why, options_.records ? request.request_id : ""), out);
  }
  for (const auto& [link, replica] : router_.replicas()) {
    if (stop_replicas) {
      out.push_back(SendShutdown{link});
    } else {
      out.push_back(CloseLink{link, "the controller is shutting down", /*rejected=*/false});
    }
  }
}

}  // namespace trireme
