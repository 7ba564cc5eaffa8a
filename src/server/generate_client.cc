#include "server/generate_client.h"

#include <condition_variable>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "server/convert.h"
#include "server/grpc_util.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme {

struct GenerateClient::State {
  std::string api_key;
  std::unique_ptr<v1::Inference::Stub> stub;
  std::mutex mutex;
  std::condition_variable none_left;
  uint64_t last_key ABSL_GUARDED_BY(mutex) = 0;
  std::unordered_map<uint64_t, Call*> calls ABSL_GUARDED_BY(mutex);
};

// Owns itself until gRPC is done with it.
class GenerateClient::Call : public grpc::ClientReadReactor<v1::GenerateEvent> {
 public:
  Call(std::shared_ptr<State> state, const GenerateRequest& request, EventCallback on_event)
      : state_(std::move(state)),
        on_event_(std::move(on_event)),
        n_open_(request.n.value_or(1)),
        request_(ToProto(request)) {}

  void Start(uint64_t key) {
    key_ = key;
    AddApiKey(state_->api_key, context_);
    state_->stub->async()->Generate(&context_, &request_, this);
    StartRead(&incoming_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone brings the status
    Event event = FromProto(std::move(incoming_));
    if (auto* finished = std::get_if<Finished>(&event)) finished->last = --n_open_ <= 0;
    if (!ended_) {
      ended_ = IsLast(event);
      on_event_(std::move(event));
    }
    StartRead(&incoming_);
  }

  void OnDone(const grpc::Status& status) override {
    if (!ended_) {
      on_event_(status.ok() ? Internal("the server ended the stream without a last event")
                            : FromGrpc(status));
    }
    auto state = std::move(state_);
    const uint64_t key = key_;
    std::lock_guard lock(state->mutex);
    state->calls.erase(key);
    if (state->calls.empty()) state->none_left.notify_all();
    delete this;
  }

 private:
  std::shared_ptr<State> state_;
  EventCallback on_event_;
  int32_t n_open_;  // choices that have not ended
  uint64_t key_ = 0;
  bool ended_ = false;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateEvent incoming_;
};

GenerateClient::GenerateClient(const std::string& address, const std::string& api_key)
    : state_(std::make_shared<State>()) {
  state_->api_key = api_key;
  RouteGrpcLog();
  state_->stub = v1::Inference::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), ClientArguments()));
}

GenerateClient::~GenerateClient() {
  std::unique_lock lock(state_->mutex);
  for (auto& [key, call] : state_->calls) call->Cancel();
  state_->none_left.wait(lock, [this] { return state_->calls.empty(); });
}

uint64_t GenerateClient::Generate(const GenerateRequest& request, EventCallback on_event) {
  auto* call = new Call(state_, request, std::move(on_event));
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
  AddApiKey(state_->api_key, context);
  RETURN_IF_ERROR(FromGrpc(state_->stub->Tokenize(&context, request, &response)));
  return std::vector<int32_t>(response.ids().begin(), response.ids().end());
}

}  // namespace trireme
