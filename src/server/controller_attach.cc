// Clients that go and come back, and requests of an earlier controller.
//
// A request outlives its client where the client asked for that, and where there is a ledger on
// disk: whoever comes back with the same request, and says what it holds of each choice, is told
// the rest. Nothing that has been generated is generated again.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "server/controller.h"
#include "text/quoted.h"

namespace trireme {

// ---- A client goes.

void Controller::Gone(Time now, uint64_t client, Actions& out) {
  LedgerRequest* request = ledger_.FindClient(client);
  if (request == nullptr) return;
  if (!request->detach) return Cancel(now, client, out);
  out.push_back(TellClient{client, absl::CancelledError("the client is gone")});
  ledger_.SetClient(*request, 0);
  Expect(now, *request);
}

// A client is to come within the time that the request waits for one.
void Controller::Expect(Time now, LedgerRequest& request) {
  Expected(request);
  request.expires = now + request.keep;
  expiries_.emplace(*request.expires, request.key);
}

void Controller::Expected(LedgerRequest& request) {
  if (!request.expires.has_value()) return;
  expiries_.erase({*request.expires, request.key});
  request.expires.reset();
}

void Controller::Release(LedgerRequest& request, Actions& out) {
  Expected(request);
  Record(GoneRecord{request.key}, out);
  ledger_.Erase(request);
}

// ---- A client comes back.

absl::Status Controller::CheckHeld(const LedgerRequest& request, const GenerateRequest& again) {
  if (again.digest != request.digest) {
    return absl::AlreadyExistsError(
        StrCat("request_id ", request.request_id, " is that of another request"));
  }
  if (!again.resume.has_value()) return absl::OkStatus();
  for (const auto& [choice, held] : *again.resume) {
    if (choice >= request.choices.size()) {
      return InvalidArgument("resume names choice ", choice, " of ", request.choices.size());
    }
    const int32_t n = request.choices[choice]->n_emitted();
    if (held.n_ids < 0 || held.text_bytes.value_or(0) < 0) {
      return InvalidArgument("resume: what is held of choice ", choice, " must be at least 0");
    }
    if (held.n_ids > n) {
      return DataLoss("the client holds ", held.n_ids, " ids of choice ", choice, " of request ",
                      request.request_id, ", the ledger ", n, ": start again");
    }
  }
  return absl::OkStatus();
}

absl::Status Controller::Attach(Time now, uint64_t client, LedgerRequest& request,
                                GenerateRequest& again, Actions& out) {
  RETURN_IF_ERROR(CheckHeld(request, again));
  if (request.client != 0) {
    out.push_back(TellClient{request.client,
                             absl::AbortedError("another stream has asked for this request")});
  }
  ledger_.SetClient(request, client);
  Expected(request);
  const SequenceRequest& first = request.choices[0]->sequence;
  Accepted accepted{.id = request.request_id, .seed = first.sampling.seed};
  TellPrompt(*request.model, first.prompt_ids, again, accepted);
  Tell(request, std::move(accepted), out);
  if (!again.resume.has_value()) again.resume.emplace();
  for (LedgerEntry* entry : request.choices) {
    TellRest(*entry, (*again.resume)[entry->sequence.choice], out);
  }
  if (request.error.has_value()) Tell(request, *request.error, out);
  if (request.open.empty()) {
    EndRequest(now, request, out);
    return absl::OkStatus();
  }
  for (LedgerEntry* entry : request.open) {
    if (!entry->link.has_value() && !entry->next_waiting.has_value()) Enqueue(now, *entry);
  }
  // It may have missed the replica that it cannot go on with.
  const uint64_t key = request.key;
  for (const auto& [link, replica] : router_.replicas()) {
    if (replica.model->name != request.model->name) continue;
    AbortUnservable(now, replica, out);
    break;
  }
  if (LedgerRequest* waits = ledger_.FindRequest(key)) DispatchNew(now, *waits, out);
  return absl::OkStatus();
}

// What the client does not hold of a choice, and how it ended.
void Controller::TellRest(LedgerEntry& entry, const Held& held, Actions& out) {
  const LedgerRequest& request = *entry.request;
  const std::vector<int32_t>& ids = entry.sequence.emitted_ids;
  ChoiceText text(request.model->tokenizer, entry.sequence.prompt_ids, request.stops,
                  entry.sequence.min_tokens);
  std::string all;
  size_t held_bytes = 0;
  bool stopped = false;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i == static_cast<size_t>(held.n_ids)) held_bytes = all.size();
    const ChoiceText::Piece piece = text.Push(ids[i]);
    all += piece.text;
    stopped = piece.stop.has_value();
  }
  if (ids.size() == static_cast<size_t>(held.n_ids)) held_bytes = all.size();
  if (entry.finished.has_value() && !stopped) all += text.Flush().text;
  if (held.text_bytes.has_value()) held_bytes = static_cast<size_t>(*held.text_bytes);

  Delta rest{.choice = entry.sequence.choice,
             .offset = held.n_ids,
             .ids = {ids.begin() + held.n_ids, ids.end()},
             .text = all.substr(std::min(held_bytes, all.size()))};
  if (entry.sequence.logprobs.has_value()) {
    rest.logprobs = {entry.logprobs.begin() + held.n_ids, entry.logprobs.end()};
  }
  if (held.n_ids == 0) rest.prompt_logprobs = entry.prompt_logprobs;
  if (!rest.ids.empty() || !rest.text.empty() || !rest.prompt_logprobs.empty()) {
    Tell(request, std::move(rest), out);
  }
  if (!entry.finished.has_value()) return;
  Finished finished = *entry.finished;
  finished.last =
      request.open.empty() && !request.error.has_value() && &entry == request.choices.back();
  Tell(request, std::move(finished), out);
}

// ---- Another controller's requests.

void Controller::Know(ModelPtr model) { models_[model->name] = std::move(model); }

void Controller::Restore(Time now, uint64_t key, RestoredRequest restored, Actions& out) {
  RequestRecord& record = restored.request;
  const auto model = models_.find(record.model);
  if (model == models_.end()) {
    out.push_back(WriteLog{
        true, StrCat("request ", text::Quoted(record.request_id),
                     " is lost: the ledger does not know its model ", text::Quoted(record.model))});
    return;
  }
  absl::Status sound = CheckRestored(restored, *model->second);
  if (ledger_.FindRequest(record.tenant, record.request_id) != nullptr) {
    sound = InvalidArgument("there are two of that id");
  }
  if (!sound.ok()) {
    out.push_back(WriteLog{true, StrCat("request ", text::Quoted(record.request_id),
                                        " of the ledger is left out: ", Message(sound))});
    return;
  }
  ++counters_.accepted;
  LedgerRequest& request = ledger_.Add({.key = key,
                                        .tenant = std::move(record.tenant),
                                        .weight = record.weight,
                                        .request_id = std::move(record.request_id),
                                        .digest = std::move(record.digest),
                                        .model = model->second,
                                        .stops = std::move(record.stops),
                                        .arrived = record.arrived,
                                        .deadline = record.deadline,
                                        .detach = record.detach,
                                        .keep = record.keep,
                                        .error = restored.error});
  for (int32_t choice = 0; choice < record.n; ++choice) {
    LedgerEntry& entry = AddChoice(request, record.sequence, choice);
    RestoreChoice(now, entry, restored.choices[static_cast<uint32_t>(choice)]);
  }
  if (request.error.has_value()) {
    for (LedgerEntry* entry : std::vector(request.open)) ledger_.Close(*entry);
  }
  if (request.open.empty()) {
    ++(request.error.has_value() ? counters_.failed : counters_.finished);
  } else if (request.deadline.has_value()) {
    deadlines_.emplace(*request.deadline, key);
  }
  // What its client wanted to be ended without it waits for it.
  for (LedgerEntry* entry : request.open) {
    if (request.detach) Enqueue(now, *entry);
  }
  Expect(now, request);
}

void Controller::RestoreChoice(Time now, LedgerEntry& entry, RestoredRequest::Choice& was) {
  std::optional<std::string> stop;
  if (!was.ids.empty()) {
    entry.fingerprint = was.fingerprint;
    entry.handed_over = entry.first_id = entry.last_id = now;
    entry.request->any_id = true;
    for (int32_t id : was.ids) stop = entry.text.Push(id).stop;
    entry.sequence.emitted_ids = std::move(was.ids);
    entry.logprobs = std::move(was.logprobs);
  }
  if (entry.n_emitted() > 0 || was.finished.has_value()) {
    entry.prompt_logprobs = std::move(was.prompt_logprobs);
  }
  entry.finished = std::move(was.finished);
  // The record of its end may be missing, where that of its last id is there.
  const bool all = entry.n_emitted() == entry.sequence.max_tokens;
  if (!entry.finished.has_value() && (all || stop.has_value())) {
    if (!stop.has_value()) stop = entry.text.Flush().stop;
    entry.finished = {.choice = entry.sequence.choice,
                      .reason = stop.has_value() ? FinishReason::kStop : FinishReason::kLength,
                      .stop_text = std::move(stop),
                      .usage = entry.usage(),
                      .timings = entry.timings(now)};
  }
  ledger_.Measure(entry);
  if (entry.finished.has_value()) ledger_.Close(entry);
}

// ---- Records.

void Controller::Record(LedgerRecord record, Actions& out) const {
  if (options_.records && !shut_down_) out.push_back(AppendRecord{std::move(record)});
}

RequestRecord Controller::RecordOf(const LedgerRequest& request) {
  RequestRecord record{.key = request.key,
                       .tenant = request.tenant,
                       .weight = request.weight,
                       .request_id = request.request_id,
                       .digest = request.digest,
                       .model = request.model->name,
                       .sequence = request.choices[0]->sequence,
                       .n = static_cast<int32_t>(request.choices.size()),
                       .stops = request.stops,
                       .arrived = request.arrived,
                       .deadline = request.deadline,
                       .detach = request.detach,
                       .keep = request.keep};
  record.sequence.id = 0;
  record.sequence.emitted_ids.clear();
  return record;
}

std::vector<LedgerRecord> Controller::Records() const {
  std::vector<LedgerRecord> records;
  for (const auto& [name, model] : models_) records.push_back(ModelRecord{model});
  for (uint64_t key : ledger_.Keys()) {
    const LedgerRequest& request = *ledger_.FindRequest(key);
    records.push_back(RecordOf(request));
    for (const LedgerEntry* entry : request.choices) {
      const uint32_t choice = entry->sequence.choice;
      if (entry->n_emitted() > 0 || !entry->prompt_logprobs.empty()) {
        records.push_back(IdsRecord{key, choice, 0, entry->sequence.emitted_ids, entry->fingerprint,
                                    entry->logprobs, entry->prompt_logprobs});
      }
      if (entry->finished.has_value()) records.push_back(FinishedRecord{key, *entry->finished});
    }
    if (request.error.has_value()) records.push_back(FailedRecord{key, *request.error});
  }
  return records;
}

}  // namespace trireme
