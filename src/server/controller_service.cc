#include "server/controller_service.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "grpc/health/v1/health.pb.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/admin_service.h"
#include "server/controller_loop.h"
#include "server/convert.h"
#include "server/generate_stream.h"
#include "server/grpc_listener.h"
#include "server/grpc_tls.h"
#include "server/grpc_util.h"
#include "server/http_service.h"
#include "server/keys.h"
#include "server/ledger_file.h"
#include "server/metrics.h"
#include "server/replica_stream.h"
#include "server/tracer.h"
#include "trireme/replica/v1/replica.grpc.pb.h"
#include "trireme/v1/control.grpc.pb.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme {
namespace {

using google::protobuf::Message;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

std::string Metadata(const CallbackServerContext& context, const char* name) {
  const auto& metadata = context.client_metadata();
  const auto it = metadata.find(name);
  return it == metadata.end() ? "" : std::string(it->second.data(), it->second.size());
}

class InferenceService : public v1::Inference::CallbackService {
 public:
  InferenceService(ControllerLoop& loop, const Doorkeeper& door, Duration write_timeout)
      : loop_(loop), door_(door), write_timeout_(write_timeout) {}

  grpc::ServerWriteReactor<v1::GenerateEvent>* Generate(
      CallbackServerContext* context, const v1::GenerateRequest* request) override {
    TraceContext trace = ContinueTrace(Metadata(*context, kTraceHeader));
    const grpc::string_ref authority = context->ExperimentalGetAuthority();
    trace.authority.assign(authority.data(), authority.size());
    context->AddInitialMetadata(kTraceHeader, trace.Header());
    return GenerateStream::Start(loop_, context, write_timeout_, Admit(*context), std::move(trace),
                                 *request);
  }

  ServerUnaryReactor* Tokenize(CallbackServerContext* context, const v1::TokenizeRequest* request,
                               v1::TokenizeResponse* response) override {
    auto* reactor = context->DefaultReactor();
    if (auto status = Check(*context, *request); !status.ok()) {
      reactor->Finish(ToGrpc(status, *context));
      return reactor;
    }
    const bool special = request->has_add_special_tokens() ? request->add_special_tokens() : true;
    loop_.Tokenize(request->model(), request->text(), special,
                   [context, reactor, response](auto ids) {
                     if (ids.ok()) response->mutable_ids()->Assign(ids->begin(), ids->end());
                     reactor->Finish(ToGrpc(ids.status(), *context));
                   });
    return reactor;
  }

  ServerUnaryReactor* Detokenize(CallbackServerContext* context,
                                 const v1::DetokenizeRequest* request,
                                 v1::DetokenizeResponse* response) override {
    auto* reactor = context->DefaultReactor();
    if (auto status = Check(*context, *request); !status.ok()) {
      reactor->Finish(ToGrpc(status, *context));
      return reactor;
    }
    const bool skip = request->has_skip_special_tokens() ? request->skip_special_tokens() : true;
    loop_.Detokenize(request->model(), {request->ids().begin(), request->ids().end()}, skip,
                     [context, reactor, response](auto text) {
                       if (text.ok()) response->set_text(*std::move(text));
                       reactor->Finish(ToGrpc(text.status(), *context));
                     });
    return reactor;
  }

 private:
  absl::StatusOr<Caller> Admit(const CallbackServerContext& context) const {
    auto caller = door_.Admit(Metadata(context, "authorization"));
    if (!caller.ok()) {
      door_.Refused(context.peer(), caller.status());
      loop_.CountRefusal(caller.status());
    }
    return caller;
  }
  absl::Status Check(const CallbackServerContext& context, const Message& request) const {
    RETURN_IF_ERROR(Admit(context).status());
    return CheckNoUnknownFields(request);
  }

  ControllerLoop& loop_;
  const Doorkeeper& door_;
  const Duration write_timeout_;
};

class ControlService : public v1::Control::CallbackService {
 public:
  ControlService(ControllerLoop& loop, const Doorkeeper& door, std::string version)
      : loop_(loop), door_(door), version_(std::move(version)) {}

  ServerUnaryReactor* GetModelInfo(CallbackServerContext* context,
                                   const v1::GetModelInfoRequest* request,
                                   v1::GetModelInfoResponse* response) override {
    auto* reactor = context->DefaultReactor();
    auto status = Admit(*context);
    if (status.ok()) status = CheckNoUnknownFields(*request);
    auto model = loop_.models().Resolve(request->model());
    if (status.ok()) status = model.status();
    if (!status.ok()) {
      reactor->Finish(ToGrpc(status, *context));
      return reactor;
    }
    loop_.Look([this, model = *model, response, reactor](const Controller& controller) {
      Describe(*model, controller, response);
      reactor->Finish(grpc::Status::OK);
    });
    return reactor;
  }

  ServerUnaryReactor* GetStats(CallbackServerContext* context, const v1::GetStatsRequest* request,
                               v1::GetStatsResponse* response) override {
    auto* reactor = context->DefaultReactor();
    if (auto status = AdmitAdmin(*context, *request); !status.ok()) {
      reactor->Finish(ToGrpc(status, *context));
      return reactor;
    }
    loop_.Look([response, reactor](const Controller& controller) {
      *response = StatsToProto(controller);
      reactor->Finish(grpc::Status::OK);
    });
    return reactor;
  }

  ServerUnaryReactor* ListModels(CallbackServerContext* context,
                                 const v1::ListModelsRequest* request,
                                 v1::ListModelsResponse* response) override {
    auto* reactor = context->DefaultReactor();
    auto status = Admit(*context);
    if (status.ok()) status = CheckNoUnknownFields(*request);
    for (const ModelPtr& model : loop_.models().All()) response->add_models(model->name);
    reactor->Finish(ToGrpc(status, *context));
    return reactor;
  }

  ServerUnaryReactor* Drain(CallbackServerContext* context, const v1::DrainRequest* request,
                            v1::DrainResponse*) override {
    auto* reactor = context->DefaultReactor();
    if (auto status = AdmitAdmin(*context, *request); !status.ok()) {
      reactor->Finish(ToGrpc(status, *context));
      return reactor;
    }
    loop_.Drain(request->link(), [context, reactor](const absl::Status& status) {
      reactor->Finish(ToGrpc(status, *context));
    });
    return reactor;
  }

  ServerUnaryReactor* Abort(CallbackServerContext* context, const v1::AbortRequest* request,
                            v1::AbortResponse* response) override {
    auto* reactor = context->DefaultReactor();
    if (auto status = AdmitAdmin(*context, *request); !status.ok()) {
      reactor->Finish(ToGrpc(status, *context));
      return reactor;
    }
    std::optional<std::string> tenant;
    if (request->has_tenant()) tenant = request->tenant();
    loop_.Abort(request->request_id(), tenant,
                [reactor, response, id = request->request_id()](int n) {
                  response->set_aborted(n);
                  reactor->Finish(n > 0 ? grpc::Status::OK
                                        : ToGrpc(NotFound("no request ", id, " is under way")));
                });
    return reactor;
  }

 private:
  absl::Status Admit(const CallbackServerContext& context) const {
    return Checked(context, door_.Admit(Metadata(context, "authorization")).status());
  }
  absl::Status Checked(const CallbackServerContext& context, absl::Status status) const {
    if (!status.ok()) door_.Refused(context.peer(), status);
    return status;
  }
  absl::Status AdmitAdmin(const CallbackServerContext& context, const Message& request) const {
    RETURN_IF_ERROR(Checked(context, door_.AdmitAdmin(Metadata(context, "authorization"))));
    return CheckNoUnknownFields(request);
  }

  void Describe(const ServedModel& model, const Controller& controller,
                v1::GetModelInfoResponse* response) const {
    response->set_model(model.name);
    response->set_vocab_size(model.vocab_size);
    response->set_context_length(controller.ContextLength(model));
    response->mutable_eos_ids()->Assign(model.eos_ids.begin(), model.eos_ids.end());
    response->set_has_tokenizer(model.tokenizer != nullptr);
    response->set_dtype(model.dtype);
    response->set_activations(model.activations);
    response->set_replicas_ready(static_cast<int32_t>(controller.ReadyReplicas()[model.name]));
    response->set_server_version(version_);
  }

  ControllerLoop& loop_;
  const Doorkeeper& door_;
  const std::string version_;
};

class ReplicaLinks : public replica::v1::ReplicaService::CallbackService {
 public:
  ReplicaLinks(ControllerLoop& loop, const Doorkeeper& door) : loop_(loop), door_(door) {}

  grpc::ServerBidiReactor<replica::v1::FromReplica, replica::v1::ToReplica>* Connect(
      CallbackServerContext* context) override {
    return ReplicaStream::Start(loop_, context,
                                door_.AdmitsReplica(Metadata(*context, kReplicaSecretHeader)));
  }

 private:
  ControllerLoop& loop_;
  const Doorkeeper& door_;
};

// What clients may take before anything is known of them.
void BoundClients(grpc::ServerBuilder& builder, const ControllerService::Options& options) {
  constexpr int kHandshakeTimeoutMs = 10000;
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);

  // gRPC's memory for all of them; beyond, it cancels calls.
  constexpr size_t kMaxBytes = 1 << 30;
  builder.SetResourceQuota(grpc::ResourceQuota("clients").Resize(kMaxBytes));
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);

  // Of one connection; more wait in their client. All that may be there are to be refused by name,
  // and beside them there are others' methods.
  const size_t max_streams = std::max<size_t>(10000, 2 * options.core.max_requests);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             static_cast<int>(std::min<size_t>(max_streams, INT32_MAX)));

  // Replicas have heartbeats of their own, and answer this, too.
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(options.keepalive).count();
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(ms));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(ms) / 3);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no bound
}

decltype(ControllerLoop::Options::open_ledger) OpensLedger(const std::string& dir) {
  if (dir.empty()) return nullptr;
  return [dir](const ModelRegistry& models) { return LedgerFile::Open(dir, models); };
}

}  // namespace

struct ControllerService::Impl {
  Impl(const Options& options, std::unique_ptr<KeyFile> keys,
       std::unique_ptr<SpanExporter> exporter)
      : door(std::move(keys), options.replica_secret),
        spans(std::move(exporter)),
        metrics(options.metrics_prefix),
        loop({.core = options.core,
              .tokenizer_threads = options.tokenizer_threads,
              .open_ledger = OpensLedger(options.ledger_dir),
              .watch = Watch(),
              .on_observe = [this](const Observe& observed) { metrics.Add(observed); },
              .on_report = [this](const auto& core,
                                  const auto& replica) { metrics.AddReport(core, replica); },
              .on_ready =
                  [this, tell = options.on_ready](const std::map<std::string, size_t>& now_ready) {
                    SetReady(now_ready);
                    if (tell) tell(now_ready);
                  },
              .on_linked = options.on_linked,
              .on_lost = options.on_lost}),
        inference(loop, door, options.write_timeout),
        control(loop, door, options.version),
        replicas(loop, door) {}

  decltype(ControllerLoop::Options::watch) Watch() {
    if (spans == nullptr) return nullptr;
    return [this](const GenerateRequest& request, const std::string& model, EventCallback next) {
      return WatchRequest(*spans, request, model, std::move(next));
    };
  }

  void SetReady(const std::map<std::string, size_t>& now_ready) {
    std::lock_guard lock(mutex);
    ready = now_ready;
    ShowHealth();
  }

  void ShowHealth() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const bool any = std::ranges::any_of(ready, [](const auto& model) { return model.second > 0; });
    for (grpc::HealthCheckServiceInterface* health : healths) {
      health->SetServingStatus("", any);
      health->SetServingStatus(v1::Inference::service_full_name(), any);
      for (const auto& [model, n] : ready) health->SetServingStatus(model, n > 0);
    }
  }

  std::mutex mutex;
  std::map<std::string, size_t> ready ABSL_GUARDED_BY(mutex);  // replicas, by model
  // The servers'.
  std::vector<grpc::HealthCheckServiceInterface*> healths ABSL_GUARDED_BY(mutex);

  const Doorkeeper door;
  const std::unique_ptr<SpanExporter> spans;  // null: nobody wants them
  Metrics metrics;
  std::unique_ptr<HttpService> http;    // outlives the loop, which may hold its answers
  std::unique_ptr<AdminService> admin;  // likewise
  ControllerLoop loop;
  InferenceService inference;
  ControlService control;
  ReplicaLinks replicas;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::unique_ptr<GrpcListener> listener;
  std::unique_ptr<grpc::Server> server;
};

ControllerService::ControllerService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

ControllerService::~ControllerService() { Stop(/*stop_replicas=*/false); }

const std::string& ControllerService::address() const { return impl_->listener->address(); }
const std::string& ControllerService::http_address() const { return impl_->http->address(); }
const std::string& ControllerService::admin_address() const { return impl_->admin->address(); }

absl::StatusOr<std::unique_ptr<ControllerService>> ControllerService::Start(Options options) {
  ASSIGN_OR_RETURN(auto listener, GrpcListener::Open(options.address));
  RouteGrpcLog(GrpcSide::kServer);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::health::v1::HealthCheckRequest::descriptor();  // links it, for reflection to describe

  std::unique_ptr<KeyFile> keys;
  if (!options.api_keys.empty()) {
    ASSIGN_OR_RETURN(keys, KeyFile::Open(options.api_keys));
  }
  std::shared_ptr<TlsStore> certificates;
  if (options.tls.any()) {
    ASSIGN_OR_RETURN(certificates, TlsStore::Open(options.tls));
  }
  std::unique_ptr<SpanExporter> spans;
  if (!options.otlp_endpoint.empty()) {
    ASSIGN_OR_RETURN(spans, SpanExporter::Start(
                                {.endpoint = options.otlp_endpoint, .version = options.version}));
  }
  auto impl = std::make_unique<Impl>(options, std::move(keys), std::move(spans));
  impl->listener = std::move(listener);
  impl->credentials = ServerCredentials(certificates);
  RETURN_IF_ERROR(impl->loop.Restore());
  grpc::ServerBuilder builder;
  BoundClients(builder, options);
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, impl->credentials);
  builder.RegisterService(&impl->inference);
  builder.RegisterService(&impl->control);
  builder.RegisterService(&impl->replicas);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr) return Internal("gRPC does not start a server");
  if (!options.http_address.empty()) {
    ASSIGN_OR_RETURN(impl->http,
                     HttpService::Start(impl->loop, impl->metrics, impl->door,
                                        {.server = {.address = options.http_address,
                                                    .max_connections = options.max_connections,
                                                    .tls = certificates,
                                                    .write_timeout = options.write_timeout},
                                         .version = options.version}));
  }
  if (!options.admin_address.empty()) {
    ASSIGN_OR_RETURN(impl->admin,
                     AdminService::Start(impl->loop, impl->metrics, options.admin_address));
  }
  {
    std::lock_guard lock(impl->mutex);
    impl->healths.push_back(impl->server->GetHealthCheckService());
    if (impl->admin != nullptr) impl->healths.push_back(&impl->admin->health());
    impl->ShowHealth();
  }
  impl->listener->Start(std::move(acceptor));
  return std::unique_ptr<ControllerService>(new ControllerService(std::move(impl)));
}

void ControllerService::Outage(const std::string& why) { impl_->loop.Outage(why); }

void ControllerService::Drain(Duration most) {
  auto idle = std::make_shared<absl::Notification>();
  impl_->loop.Close([idle] { idle->Notify(); });
  idle->WaitForNotificationWithTimeout(absl::FromChrono(most));
}

void ControllerService::Stop(bool stop_replicas) {
  if (impl_->server == nullptr) return;
  impl_->loop.Shutdown(stop_replicas);
  impl_->listener->Stop();
  constexpr std::chrono::seconds kLastWords{2};
  if (impl_->http != nullptr) impl_->http->Finish(kLastWords);
  impl_->server->Shutdown(std::chrono::system_clock::now() + kLastWords);
  if (impl_->http != nullptr) impl_->http->Stop();
  if (impl_->admin != nullptr) impl_->admin->Stop();
  impl_->loop.Stop();
  {
    std::lock_guard lock(impl_->mutex);
    impl_->healths.clear();
  }
  impl_->server.reset();
}

}  // namespace trireme
