#include "server/replica_client.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "grpcpp/client_context.h"
#include "server/convert.h"
#include "server/grpc_util.h"
#include "trireme/replica/v1/replica.grpc.pb.h"

namespace trireme {

using replica::v1::FromReplica;
using replica::v1::ReplicaService;
using replica::v1::ToReplica;

namespace {

Time Now() { return std::chrono::steady_clock::now(); }

uint64_t DrawInstance() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace

// Reports on their way out. The replica's sink has a share in it, so that a report that comes after
// the link is harmless.
struct ReplicaClient::Outbox {
  std::mutex mutex;
  std::condition_variable news;  // of any of them
  std::deque<StepReport> reports ABSL_GUARDED_BY(mutex);
  bool closed ABSL_GUARDED_BY(mutex) = false;
};

// One dialled connection. A thread reads, a thread writes, and Run's own watches them: either may
// be held up for as long as the controller is.
struct ReplicaClient::Link {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<FromReplica, ToReplica>> stream;
  std::shared_ptr<Outbox> outbox = std::make_shared<Outbox>();

  std::mutex mutex;              // what the reading thread tells the others
  std::condition_variable news;  // of `over` or `timeout`
  bool over ABSL_GUARDED_BY(mutex) = false;
  Time last_heard ABSL_GUARDED_BY(mutex) = Now();
  Duration heartbeat ABSL_GUARDED_BY(mutex) = std::chrono::seconds(1);
  Duration timeout ABSL_GUARDED_BY(mutex);

  // How it went; the reading thread's until it has ended.
  bool registered = false;
  bool sent_home = false;
  std::string rejected;
  absl::Status status;
};

ReplicaClient::ReplicaClient(Replica& replica, Options options)
    : replica_(replica), options_(std::move(options)), instance_(DrawInstance()) {}

ReplicaClient::~ReplicaClient() {
  Stop();
  if (thread_.joinable()) thread_.join();
}

void ReplicaClient::Start() {
  RouteGrpcLog(GrpcSide::kClient);
  thread_ = std::thread([this] {
    ended_ = Run();
    replica_.Stop();
  });
}

absl::Status ReplicaClient::Wait() {
  if (thread_.joinable()) thread_.join();
  return ended_;
}

void ReplicaClient::Stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  if (link_ != nullptr) link_->context.TryCancel();
  stop_.notify_all();
}

// False if Stop has been called.
bool ReplicaClient::Pause(Duration duration) {
  std::unique_lock lock(mutex_);
  return !stop_.wait_for(lock, duration, [this] { return stopping_; });
}

// Dials until it is sent home, refused, stopped, or the controller has been gone for too long.
absl::Status ReplicaClient::Run() {
  ASSIGN_OR_RETURN(const auto certificates, TlsStore::Open(options_.tls.files));
  std::shared_ptr<const TlsPem> pem;  // that the stub dials by
  std::unique_ptr<ReplicaService::Stub> stub;
  Time lost = Now();
  Duration redial = options_.first_redial;
  while (true) {
    Link link;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return absl::OkStatus();
      link_ = &link;
    }
    if (auto now = certificates->Get(); now != pem) {
      pem = std::move(now);
      stub = ReplicaService::NewStub(Dial(options_.controller, options_.tls, *pem));
    }
    if (!options_.secret.empty()) link.context.AddMetadata(kReplicaSecretHeader, options_.secret);
    link.stream = stub->Connect(&link.context);
    Converse(link);
    {
      std::lock_guard lock(mutex_);
      link_ = nullptr;
      if (stopping_) return absl::OkStatus();
    }
    if (link.sent_home) return absl::OkStatus();
    if (!link.rejected.empty()) {
      return FailedPrecondition("the controller at ", options_.controller,
                                " refuses this replica: ", link.rejected);
    }
    link.status = Explain(link.status, options_.tls);
    if (link.registered) {
      lost = Now();
      redial = options_.first_redial;
      spdlog::warn("the controller at {} is lost ({}); dialling again for {:.0f} s",
                   options_.controller, Message(link.status), Seconds(options_.controller_timeout));
    } else if (redial == options_.first_redial) {
      spdlog::warn("no controller at {} yet ({}); dialling for {:.0f} s", options_.controller,
                   Message(link.status), Seconds(options_.controller_timeout));
    }
    const Duration left = lost + options_.controller_timeout - Now();
    if (left <= Duration::zero()) {
      return Unavailable("no controller at ", options_.controller, " for ",
                         Seconds(options_.controller_timeout), " s: ", Message(link.status));
    }
    if (!Pause(std::min(redial, left))) return absl::OkStatus();
    redial = std::min(2 * redial, options_.longest_redial);
  }
}

// From Register to the end of the link.
void ReplicaClient::Converse(Link& link) {
  {
    std::lock_guard lock(link.mutex);
    link.timeout = options_.registration_timeout;
  }
  std::thread reader([this, &link] { Read(link); });
  std::thread writer([this, &link] { Write(link); });

  bool silent = false;
  {
    std::unique_lock lock(link.mutex);
    while (!link.over && !silent) {
      link.news.wait_until(lock, link.last_heard + link.timeout);
      silent = !link.over && Now() >= link.last_heard + link.timeout;
    }
  }
  if (silent) link.context.TryCancel();
  reader.join();
  {
    std::lock_guard lock(link.outbox->mutex);
    link.outbox->closed = true;
  }
  link.outbox->news.notify_all();
  writer.join();
  link.stream->WritesDone();
  for (ToReplica rest; link.stream->Read(&rest);) {
  }
  link.status = FromGrpc(link.stream->Finish());
  if (silent) link.status = Unavailable("nothing heard from it");
}

void ReplicaClient::Read(Link& link) {
  ToReplica message;
  while (!link.sent_home && link.rejected.empty() && link.stream->Read(&message)) {
    std::lock_guard lock(link.mutex);
    link.last_heard = Now();
    switch (message.message_case()) {
      case ToReplica::kRegistered:
        link.registered = true;
        link.heartbeat = FromSeconds(message.registered().heartbeat_s());
        link.timeout = FromSeconds(message.registered().timeout_s());
        link.news.notify_all();
        replica_.SetSink([outbox = link.outbox](StepReport&& report) {
          {
            std::lock_guard lock(outbox->mutex);
            if (outbox->closed) return;
            outbox->reports.push_back(std::move(report));
          }
          outbox->news.notify_all();
        });
        spdlog::info("linked to the controller at {}", options_.controller);
        break;
      case ToReplica::kSubmit:
        replica_.Submit(FromProto(message.submit()));
        break;
      case ToReplica::kCancel:
        replica_.Cancel(message.cancel().id());
        break;
      case ToReplica::kHeartbeat:
        break;
      case ToReplica::kReject:
        link.rejected = message.reject().reason();
        break;
      case ToReplica::kShutdown:
        link.sent_home = true;
        break;
      case ToReplica::MESSAGE_NOT_SET:
        break;
    }
  }
  if (link.registered) replica_.SetSink(nullptr);
  std::lock_guard lock(link.mutex);
  link.over = true;
  link.news.notify_all();
}

// Register, then reports, and heartbeats where there are none.
void ReplicaClient::Write(Link& link) {
  FromReplica message;
  auto* registration = message.mutable_registration();
  registration->set_revision(options_.revision != 0 ? options_.revision : kReplicaProtocolRevision);
  registration->set_instance(instance_);
  *registration->mutable_info() = ToProto(replica_.info());
  if (!link.stream->Write(message)) return;

  Outbox& outbox = *link.outbox;
  while (true) {
    Duration heartbeat;
    {
      std::lock_guard lock(link.mutex);
      heartbeat = link.heartbeat;
    }
    std::deque<StepReport> reports;
    {
      std::unique_lock lock(outbox.mutex);
      outbox.news.wait_for(lock, heartbeat,
                           [&] { return outbox.closed || !outbox.reports.empty(); });
      if (outbox.closed) return;
      reports.swap(outbox.reports);
    }
    for (const StepReport& report : reports) {
      *message.mutable_report() = ToProto(report);
      if (!link.stream->Write(message)) return;
    }
    if (reports.empty()) {
      message.mutable_heartbeat();
      if (!link.stream->Write(message)) return;
    }
  }
}

}  // namespace trireme
