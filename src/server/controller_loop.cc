#include "server/controller_loop.h"

#include <future>
#include <mutex>
#include <random>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/log_fields.h"
#include "nlohmann/json.hpp"
#include "server/refusal.h"

namespace trireme {
namespace {

Time Now() { return std::chrono::steady_clock::now(); }

uint64_t RandomBits() {
  thread_local std::random_device device;
  return uint64_t{device()} << 32 | device();
}

absl::Status CheckText(const ServedModel& model, const std::string& text, size_t max_bytes) {
  if (model.tokenizer == nullptr) {
    return FailedPrecondition(model.name, " has no tokenizer: send ids");
  }
  if (text.size() > max_bytes) {
    return InvalidArgument("text has ", text.size(), " bytes; at most ", max_bytes,
                           " are possible");
  }
  return absl::OkStatus();
}

constexpr size_t kSmallBytes = 1 << 10;       // tokenized about as soon as another thread wakes up
constexpr size_t kLargeBytes = 64 << 10;      // a few milliseconds of tokenizing
constexpr size_t kMaxLargeBytes = 256 << 20;  // of such that wait
constexpr Duration kBetweenCompactions = std::chrono::seconds(1);  // of a ledger that is full
constexpr int kNice = 10;  // a ninth of the processor where others want it, too

size_t TextBytes(const nlohmann::ordered_json& json) {
  if (json.is_string()) return json.get_ref<const std::string&>().size();
  size_t n_bytes = json.size();
  if (!json.is_structured()) return n_bytes;
  for (const auto& value : json) n_bytes += TextBytes(value);
  return n_bytes;
}

size_t PromptBytes(const GenerateRequest& request) {
  if (request.chat == nullptr) return request.text->size();
  return TextBytes(request.chat->messages) + TextBytes(request.chat->variables);
}

// Of a request's text or chat.
absl::StatusOr<std::vector<int32_t>> PromptIds(const ServedModel& model,
                                               const GenerateRequest& request, size_t max_bytes) {
  std::string text;
  if (request.chat != nullptr) {
    RETURN_IF_ERROR(model.chat.status());
    ASSIGN_OR_RETURN(text, model.chat->Render(*request.chat));
  } else {
    text = *request.text;
  }
  RETURN_IF_ERROR(CheckText(model, text, max_bytes));
  // A template writes the special tokens itself.
  const bool add_special_tokens = request.add_special_tokens.value_or(request.chat == nullptr);
  auto ids = model.tokenizer->Encode(text, add_special_tokens);
  if (!ids.ok()) return Annotate(ids.status(), "text");
  return ids;
}

ControllerOptions CoreOptions(const ControllerLoop::Options& options) {
  ControllerOptions core = options.core;
  core.records = options.open_ledger != nullptr;
  return core;
}

}  // namespace

ControllerLoop::ControllerLoop(Options options)
    : options_(std::move(options)),
      core_(CoreOptions(options_), RandomBits),
      pool_(options_.tokenizer_threads, options_.core.max_requests),
      large_pool_(options_.tokenizer_threads, options_.core.max_requests, kNice, kMaxLargeBytes),
      thread_([this] { Run(); }) {}

ControllerLoop::~ControllerLoop() { Stop(); }

// ---- The mailbox and its thread.

void ControllerLoop::Post(Mail mail) {
  {
    std::lock_guard lock(mutex_);
    mailbox_.push_back(std::move(mail));
  }
  news_.notify_one();
}

void ControllerLoop::Run() {
  const auto has_news = [this] { return stopping_ || !mailbox_.empty(); };
  Actions actions;
  while (true) {
    std::deque<Mail> mails;
    {
      std::unique_lock lock(mutex_);
      if (const Time tick = core_.NextTick(); tick == Time::max()) {
        news_.wait(lock, has_news);
      } else {
        news_.wait_until(lock, tick, has_news);
      }
      if (stopping_ && mailbox_.empty()) return;
      mails.swap(mailbox_);
    }
    for (Mail& mail : mails) {
      mail(Now(), actions);
      Perform(actions);
    }
    if (const Time now = Now(); now >= core_.NextTick()) {
      core_.Tick(now, actions);
      Perform(actions);
    }
  }
}

void ControllerLoop::Close(std::function<void()> done) {
  Post([this, done = std::move(done)](Time, Actions& out) {
    core_.Close();
    closed_ = done;
    if (const size_t n = core_.n_open(); n > 0) {
      out.push_back(WriteLog{false, StrCat("shutting down once ", n, " requests have ended")});
    }
  });
}

void ControllerLoop::Shutdown(bool stop_replicas) {
  Post([this, stop_replicas](Time now, Actions& out) { core_.Shutdown(now, stop_replicas, out); });
}

void ControllerLoop::Stop() {
  if (!thread_.joinable()) return;
  pool_.Stop();
  large_pool_.Stop();
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.notify_one();
  thread_.join();
}

absl::Status ControllerLoop::Restore() {
  if (!options_.open_ledger) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::shared_ptr<LedgerStore> store, options_.open_ledger(models_));
  const std::vector<LedgerRecord> records = store->TakeRecords();
  std::promise<absl::Status> restored;
  Post([this, records, store, &restored](Time now, Actions& out) {
    for (const LedgerRecord& record : records) {
      if (const auto* r = std::get_if<ModelRecord>(&record)) {
        models_.Publish(r->model);
        core_.Know(r->model);
      }
    }
    std::vector<RestoredRequest> requests = trireme::Restore(records);
    for (RestoredRequest& request : requests) {
      core_.Restore(now, ++last_key_, std::move(request), out);
    }
    if (!requests.empty()) {
      out.push_back(WriteLog{false, StrCat(requests.size(), " requests of an earlier controller")});
    }
    store_ = store;
    restored.set_value(store_->Rewrite(core_.Records()));
    TellDisk(false);
  });
  return restored.get_future().get();
}

// ---- Actions.

nlohmann::ordered_json LossFields(const TellLost& lost) {
  return {
      {"link", lost.link}, {"plans_committed", lost.plans_committed}, {"requests", lost.requests}};
}

// What the actions have written down is on disk before any of them is done.
void ControllerLoop::Write(Actions& actions) {
  std::vector<LedgerRecord> records;
  for (Action& action : actions) {
    if (auto* append = std::get_if<AppendRecord>(&action)) {
      records.push_back(std::move(append->record));
    }
  }
  if (records.empty()) return;
  store_->Append(records);
  TellDisk(store_->full());
  if (!store_->WantsRewrite()) return;
  if (auto status = store_->Rewrite(core_.Records()); !status.ok()) {
    spdlog::error("{}", Message(status));
  }
}

// Whether the ledger takes one more request. Much of a full one may be of the past.
absl::Status ControllerLoop::LedgerRoom(Time now) {
  if (store_ == nullptr) return absl::OkStatus();
  absl::Status room = store_->Ready();
  if (room.ok() || now < next_compaction_) return room;
  next_compaction_ = now + kBetweenCompactions;
  if (!store_->Rewrite(core_.Records()).ok()) return room;
  return store_->Ready();
}

void ControllerLoop::TellDisk(bool full) {
  if (std::exchange(disk_full_, full) == full || !options_.on_observe) return;
  options_.on_observe({Measure::kDiskFull, nullptr, full ? 1.0 : 0.0});
}

void ControllerLoop::Perform(Actions& actions) {
  if (store_ != nullptr) Write(actions);
  for (Action& action : actions) {
    std::visit([this](auto& a) { Do(a); }, action);
  }
  actions.clear();
  if (closed_ && core_.n_open() == 0) std::exchange(closed_, nullptr)();
  std::map<std::string, size_t> ready = core_.ReadyReplicas();
  if (ready == ready_) return;
  ready_ = std::move(ready);
  if (options_.on_ready) options_.on_ready(ready_);
}

ReplicaLink* ControllerLoop::FindLink(uint64_t link) {
  auto it = links_.find(link);
  return it == links_.end() ? nullptr : it->second.get();
}

void ControllerLoop::Do(SendRegistered& a) {
  models_.Publish(std::move(a.model));
  if (auto* link = FindLink(a.link)) link->Registered(a.link, options_.core);
  const auto replica = core_.replicas().find(a.link);
  if (replica != core_.replicas().end() && replica->second.info.number >= 0 && options_.on_linked) {
    options_.on_linked(replica->second.info.number, a.link);
  }
}
void ControllerLoop::Do(Observe& a) {
  if (options_.on_observe) options_.on_observe(a);
}
void ControllerLoop::Do(TellLost& a) {
  nlohmann::ordered_json fields = LossFields(a);
  fields["cause"] = a.reason;
  LogWithFields(spdlog::level::warn, a.line, fields);
  if (a.number >= 0 && options_.on_lost) options_.on_lost(a);
}
void ControllerLoop::Do(SendSubmit& a) {
  if (auto* link = FindLink(a.link)) link->Submit(std::move(a.sequence));
}
void ControllerLoop::Do(SendCancel& a) {
  if (auto* link = FindLink(a.link)) link->Cancel(a.sequence_id);
}
void ControllerLoop::Do(SendHeartbeat& a) {
  if (auto* link = FindLink(a.link)) link->Heartbeat();
}
void ControllerLoop::Do(SendShutdown& a) {
  if (auto* link = FindLink(a.link)) link->Shutdown();
  TellDrained(a.link, absl::OkStatus());
}
void ControllerLoop::TellDrained(uint64_t link, const absl::Status& status) {
  const auto [begin, end] = draining_.equal_range(link);
  for (auto it = begin; it != end; ++it) it->second(status);
  draining_.erase(begin, end);
}
void ControllerLoop::Do(CloseLink& a) {
  TellDrained(a.link, Unavailable("the replica was lost: ", a.reason));
  if (auto* link = FindLink(a.link)) link->Close(a.reason, a.rejected);
  links_.erase(a.link);
}
void ControllerLoop::Do(TellClient& a) {
  auto it = clients_.find(a.key);
  if (it == clients_.end()) return;
  if (!IsLast(a.event)) return it->second.on_event(std::move(a.event));
  EventCallback on_event = std::move(it->second.on_event);
  clients_.erase(it);
  on_event(std::move(a.event));
}
void ControllerLoop::Do(TellProgress& a) {
  const auto it = clients_.find(a.key);
  if (it != clients_.end() && it->second.on_progress) it->second.on_progress(a.progress);
}
void ControllerLoop::Do(WriteLog& a) {
  spdlog::log(a.warning ? spdlog::level::warn : spdlog::level::info, "{}", a.line);
}

// ---- Clients.

uint64_t ControllerLoop::Generate(GenerateRequest request, EventCallback on_event) {
  const uint64_t key = ++last_key_;
  const Time arrived = Now();
  auto model = models_.Resolve(request.model);
  RequestWatch client{.on_event = std::move(on_event)};
  if (options_.watch) {
    client = options_.watch(request, model.ok() ? (*model)->name : request.model,
                            std::move(client.on_event));
  }
  Post([this, key, client = std::move(client)](Time, Actions&) mutable {
    clients_.emplace(key, std::move(client));
  });
  if (!model.ok() || (!request.text.has_value() && request.chat == nullptr)) {
    Admit(key, arrived, std::move(request), std::move(model));
    return key;
  }
  const size_t n_bytes = PromptBytes(request);
  const bool at_once = n_bytes <= kSmallBytes && request.chat == nullptr;
  auto shared = std::make_shared<GenerateRequest>(std::move(request));
  auto tokenize = [this, key, arrived, shared, model]() mutable {
    auto ids = PromptIds(**model, *shared, options_.max_prompt_bytes);
    if (!ids.ok()) return Admit(key, arrived, {}, ids.status());
    shared->ids = *std::move(ids);
    shared->chat.reset();
    Admit(key, arrived, std::move(*shared), std::move(model));
  };
  if (at_once) {
    tokenize();
  } else if (!PoolFor(n_bytes).Run(n_bytes, std::move(tokenize))) {
    Admit(key, arrived, {}, ResourceExhausted("too many texts to tokenize: retry later"));
  }
  return key;
}

// Posts a tokenized request, or why there is none, to the core.
void ControllerLoop::Admit(uint64_t key, Time arrived, GenerateRequest request,
                           absl::StatusOr<ModelPtr> model) {
  Post([this, key, arrived, request = std::move(request), model = std::move(model)](
           Time now, Actions& out) mutable {
    if (!clients_.contains(key)) return;  // cancelled meanwhile
    if (!model.ok()) return core_.Refuse(key, model.status(), out);
    if (store_ != nullptr) {
      const auto room = LedgerRoom(now);
      TellDisk(!room.ok());
      if (!room.ok()) return core_.Refuse(key, Because(kDiskFull, room), out);
    }
    core_.Generate(now, key, arrived, *std::move(model), std::move(request), out);
  });
}

void ControllerLoop::CountRefusal(absl::Status status) {
  Post([this, status = std::move(status)](Time, Actions& out) { core_.CountRefusal(status, out); });
}

void ControllerLoop::Cancel(uint64_t key) {
  Post([this, key](Time now, Actions& out) {
    core_.Cancel(now, key, out);
    if (out.empty() && clients_.contains(key)) {
      core_.Refuse(key, absl::CancelledError("cancelled by the client"), out);
    }
  });
}

void ControllerLoop::Gone(uint64_t key) {
  Post([this, key](Time now, Actions& out) {
    core_.Gone(now, key, out);
    if (out.empty() && clients_.contains(key)) {
      core_.Refuse(key, absl::CancelledError("the client is gone"), out);
    }
  });
}

WorkerPool& ControllerLoop::PoolFor(size_t n_bytes) {
  return n_bytes > kLargeBytes ? large_pool_ : pool_;
}

bool ControllerLoop::RunAside(size_t n_bytes, std::function<void()> job) {
  if (n_bytes > kLargeBytes) return large_pool_.Run(n_bytes, std::move(job));
  job();
  return true;
}

void ControllerLoop::RunSoon(const std::function<void()>& job) {
  if (!pool_.RunNext(job)) job();
}

void ControllerLoop::Tokenize(std::string model, std::string text, bool add_special_tokens,
                              IdsCallback done) {
  const size_t n_bytes = text.size();
  const bool queued = PoolFor(n_bytes).Run(
      n_bytes, [this, model, text = std::move(text), add_special_tokens, done] {
        auto found = models_.Resolve(model);
        if (!found.ok()) return done(found.status());
        if (auto status = CheckText(**found, text, options_.max_prompt_bytes); !status.ok()) {
          return done(status);
        }
        done((*found)->tokenizer->Encode(text, add_special_tokens));
      });
  if (!queued) done(ResourceExhausted("too many texts to tokenize: retry later"));
}

void ControllerLoop::Detokenize(std::string model, std::vector<int32_t> ids,
                                bool skip_special_tokens, TextCallback done) {
  const size_t n_bytes = ids.size() * sizeof(int32_t);
  const bool queued =
      PoolFor(n_bytes).Run(n_bytes, [this, model, ids = std::move(ids), skip_special_tokens, done] {
        auto found = models_.Resolve(model);
        if (!found.ok()) return done(found.status());
        if (auto status = CheckText(**found, "", options_.max_prompt_bytes); !status.ok()) {
          return done(status);
        }
        for (int32_t id : ids) {
          if (id < 0 || id >= (*found)->vocab_size) {
            return done(InvalidArgument("id ", id, " is outside the vocabulary [0, ",
                                        (*found)->vocab_size, ")"));
          }
        }
        done((*found)->tokenizer->Decode(ids, skip_special_tokens));
      });
  if (!queued) done(ResourceExhausted("too many texts to detokenize: retry later"));
}

void ControllerLoop::Look(std::function<void(const Controller&)> look) {
  Post([this, look = std::move(look)](Time, Actions&) { look(core_); });
}

// ---- Replicas.

uint64_t ControllerLoop::AddReplica(uint64_t instance, ReplicaInfo info,
                                    std::shared_ptr<ReplicaLink> replica) {
  const uint64_t link = ++last_link_;
  Post([this, link, replica = std::move(replica)](Time, Actions&) {
    links_.emplace(link, std::move(replica));
  });
  auto shared = std::make_shared<ReplicaInfo>(std::move(info));
  // Not behind texts to tokenize: requests wait for replicas.
  const bool queued = pool_.RunNext([this, link, instance, shared] {
    Post([this, link, instance, shared, model = models_.Prepare(*shared)](Time now, Actions& out) {
      if (!links_.contains(link)) return;  // it broke meanwhile
      if (!model.ok()) {
        out.push_back(CloseLink{link, Message(model.status()), /*rejected=*/true});
        return;
      }
      core_.ReplicaUp(now, link, instance, std::move(*shared), *model, out);
    });
  });
  if (!queued) {
    Post([link](Time, Actions& out) {
      out.push_back(CloseLink{link, "the controller is busy", /*rejected=*/false});
    });
  }
  return link;
}

void ControllerLoop::LinkDown(uint64_t link, std::string reason) {
  Post([this, link, reason = std::move(reason)](Time now, Actions& out) {
    links_.erase(link);
    TellDrained(link, Unavailable("the replica was lost: ", reason));
    core_.ReplicaDown(now, link, reason, out);
  });
}

void ControllerLoop::Report(uint64_t link, StepReport report, std::function<void()> done) {
  Post([this, link, report = std::move(report), done = std::move(done)](Time now,
                                                                        Actions& out) mutable {
    core_.Report(now, link, std::move(report), out);
    const auto replica = core_.replicas().find(link);
    if (replica != core_.replicas().end() && options_.on_report) {
      options_.on_report(core_, replica->second);
    }
    if (done) done();
  });
}

void ControllerLoop::Drain(uint64_t link, std::function<void(absl::Status)> done) {
  Post([this, link, done = std::move(done)](Time now, Actions& out) {
    const auto replica = core_.replicas().find(link);
    const bool left = replica != core_.replicas().end() && replica->second.sent_home;
    if (auto status = core_.Drain(now, link, out); !status.ok() || left) return done(status);
    draining_.emplace(link, done);
  });
}

void ControllerLoop::Abort(std::string request_id, std::optional<std::string> tenant,
                           std::function<void(int n)> done) {
  Post([this, request_id = std::move(request_id), tenant = std::move(tenant),
        done = std::move(done)](Time now, Actions& out) {
    done(core_.Abort(now, request_id, tenant, out));
  });
}

void ControllerLoop::Outage(std::string why) {
  Post([this, why = std::move(why)](Time now, Actions& out) { core_.Outage(now, why, out); });
}

void ControllerLoop::Heartbeat(uint64_t link) {
  Post([this, link](Time now, Actions&) { core_.Heartbeat(now, link); });
}

}  // namespace trireme
