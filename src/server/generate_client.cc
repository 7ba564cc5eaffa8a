#include "server/generate_client.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "grpcpp/alarm.h"
#include "server/convert.h"
#include "server/grpc_util.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme {

struct GenerateClient::State {
  Options options;
  std::unique_ptr<v1::Inference::Stub> stub;
  std::mutex mutex;
  std::condition_variable none_left;
  uint64_t last_key ABSL_GUARDED_BY(mutex) = 0;
  std::unordered_map<uint64_t, Call*> calls ABSL_GUARDED_BY(mutex);
};

// One request, on one stream after another. Owns itself until gRPC is done with it.
class GenerateClient::Call : public grpc::ClientReadReactor<v1::GenerateEvent> {
 public:
  Call(State& state, const GenerateRequest& request, EventCallback on_event)
      : state_(state),
        on_event_(std::move(on_event)),
        n_choices_(static_cast<size_t>(request.n.value_or(1))),
        request_(ToProto(request)) {}

  void Start(uint64_t key) {
    key_ = key;
    Dial();
  }

  void Cancel() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    context_->TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone brings the status
    Tell(FromProto(std::move(incoming_)));
    StartRead(&incoming_);
  }

  void OnDone(const grpc::Status& status) override {
    if (!ended_ && MayResume(status)) return Resume();
    if (!ended_) {
      // A server that does not know the request any more: why its stream broke says more.
      const bool forgotten =
          status.error_code() == grpc::StatusCode::NOT_FOUND && lost_.has_value();
      on_event_(status.ok() ? Internal("the server ended the stream without a last event")
                            : FromGrpc(forgotten ? why_lost_ : status));
    }
    State& state = state_;
    std::lock_guard lock(state.mutex);
    state.calls.erase(key_);
    delete this;
    if (state.calls.empty()) state.none_left.notify_all();
  }

 private:
  static constexpr std::chrono::milliseconds kPause{200};  // before another stream

  void Dial() {
    {
      std::lock_guard lock(mutex_);
      context_ = std::make_unique<grpc::ClientContext>();
      if (cancelled_) context_->TryCancel();
    }
    AddApiKey(state_.options.api_key, *context_);
    state_.stub->async()->Generate(context_.get(), &request_, this);
    StartRead(&incoming_);
    StartCall();
  }

  void Tell(Event event) {
    if (ended_) return;
    lost_.reset();
    if (auto* accepted = std::get_if<Accepted>(&event)) {
      if (!request_id_.empty()) return;  // of a stream that goes on
      request_id_ = accepted->id;
    } else if (auto* delta = std::get_if<Delta>(&event)) {
      Held& held = held_[delta->choice];
      held.n_ids += static_cast<int32_t>(delta->ids.size());
      held.text_bytes = held.text_bytes.value_or(0) + static_cast<int64_t>(delta->text.size());
    } else if (auto* finished = std::get_if<Finished>(&event)) {
      if (!finished_.insert(finished->choice).second) return;  // told of before the stream broke
      finished->last = finished_.size() == n_choices_;
    }
    ended_ = IsLast(event);
    on_event_(std::move(event));
  }

  bool MayResume(const grpc::Status& status) {
    if (request_id_.empty() || status.error_code() != grpc::StatusCode::UNAVAILABLE) return false;
    std::lock_guard lock(mutex_);
    const Time now = std::chrono::steady_clock::now();
    if (!lost_.has_value()) {
      lost_ = now;
      why_lost_ = status;
    }
    return !cancelled_ && now - *lost_ < state_.options.reconnect;
  }

  void Resume() {
    request_.set_request_id(request_id_);
    v1::Resume& resume = *request_.mutable_resume();
    resume.clear_choices();
    for (const auto& [choice, held] : held_) {
      v1::HeldChoice& to = *resume.add_choices();
      to.set_choice(choice);
      to.set_ids(held.n_ids);
      to.set_text_bytes(held.text_bytes.value_or(0));
    }
    pause_.Set(std::chrono::system_clock::now() + kPause, [this](bool) { Dial(); });
  }

  // Not a share in it: with the channel in it gRPC's queue ends, which a thread of that queue must
  // not do.
  State& state_;
  EventCallback on_event_;
  const size_t n_choices_;
  std::set<uint32_t> finished_;  // choices
  std::map<uint32_t, Held> held_;
  std::string request_id_;    // once it is accepted
  std::optional<Time> lost_;  // the last stream that brought anything
  grpc::Status why_lost_;
  uint64_t key_ = 0;
  bool ended_ = false;
  v1::GenerateRequest request_;
  v1::GenerateEvent incoming_;
  grpc::Alarm pause_;

  std::mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<grpc::ClientContext> context_;  // made under the mutex
};

GenerateClient::GenerateClient(Options options) : state_(std::make_unique<State>()) {
  RouteGrpcLog(GrpcSide::kClient);
  state_->stub = v1::Inference::NewStub(options.channel);
  state_->options = std::move(options);
}

GenerateClient::~GenerateClient() {
  std::unique_lock lock(state_->mutex);
  for (auto& [key, call] : state_->calls) call->Cancel();
  state_->none_left.wait(lock, [this] { return state_->calls.empty(); });
}

uint64_t GenerateClient::Generate(const GenerateRequest& request, EventCallback on_event) {
  auto* call = new Call(*state_, request, std::move(on_event));
  uint64_t key;
  {
    std::lock_guard lock(state_->mutex);
    key = ++state_->last_key;
    state_->calls.emplace(key, call);
  }
  call->Start(key);
  return key;
}

void GenerateClient::Cancel(uint64_t key) {
  std::lock_guard lock(state_->mutex);
  auto it = state_->calls.find(key);
  if (it != state_->calls.end()) it->second->Cancel();
}

absl::StatusOr<std::vector<int32_t>> GenerateClient::Tokenize(const std::string& model,
                                                              const std::string& text) {
  v1::TokenizeRequest request;
  request.set_model(model);
  request.set_text(text);
  request.set_add_special_tokens(false);
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  AddApiKey(state_->options.api_key, context);
  RETURN_IF_ERROR(FromGrpc(state_->stub->Tokenize(&context, request, &response)));
  return std::vector<int32_t>(response.ids().begin(), response.ids().end());
}

}  // namespace trireme
