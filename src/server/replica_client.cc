#include "server/replica_client.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "grpcpp/client_context.h"
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

// With an end to what a host that is out of reach leaves under way, cancelled or not.
grpc::ChannelArguments LinkArguments() {
  constexpr int kUnansweredMs = 30000;
  grpc::ChannelArguments arguments = ClientArguments();
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kUnansweredMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kUnansweredMs);
  return arguments;
}

// Reports on their way out. The replica's sink has a share in it, so that a report that comes after
// the link is harmless.
struct Outbox {
  std::mutex mutex;
  std::condition_variable news;  // of any of them
  std::deque<StepReport> reports ABSL_GUARDED_BY(mutex);
  bool leaving ABSL_GUARDED_BY(mutex) = false;  // to be told
  bool closed ABSL_GUARDED_BY(mutex) = false;
};

}  // namespace

// One dialled connection. A thread reads, a thread writes, and the dialer's own watches them:
// either may be held up for as long as the controller is.
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

  bool silent = false;  // nothing was heard: the connection may be dead; the dialer's own

  // The reading thread's until it has ended.
  std::unique_ptr<Replica::Link> engine;  // while it is registered
  bool registered = false;
  bool sent_home = false;
  std::string rejected;
  absl::Status status;

  bool linked = false;  // guarded by the client's mutex
};

// One controller's.
class ReplicaClient::Dialer {
 public:
  Dialer(ReplicaClient& client, std::string address)
      : client_(client), options_(client.options_), address_(std::move(address)) {}

  // Dials until the replica is sent home, refused or stopped, or controllers have been gone for too
  // long.
  void Run() { ended_ = Dial(); }

  // Once it has run.
  const absl::Status& ended() const { return ended_; }

 private:
  absl::Status Dial();
  void Converse(Link& link);
  void Read(Link& link);
  void Write(Link& link);

  ReplicaClient& client_;
  const Options& options_;
  const std::string address_;
  absl::Status ended_;
};

ReplicaClient::ReplicaClient(Replica& replica, Options options)
    : replica_(replica), options_(std::move(options)), instance_(DrawInstance()), lost_(Now()) {
  CHECK(!options_.controllers.empty());
  for (const std::string& address : options_.controllers) {
    dialers_.push_back(std::make_unique<Dialer>(*this, address));
  }
}

ReplicaClient::~ReplicaClient() {
  Stop();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void ReplicaClient::Start() {
  RouteGrpcLog(GrpcSide::kClient);
  {
    std::lock_guard lock(mutex_);
    n_dialling_ = dialers_.size();
    lost_ = Now();
  }
  for (const auto& dialer : dialers_) {
    threads_.emplace_back([this, &dialer = *dialer] {
      dialer.Run();
      std::unique_lock lock(mutex_);
      const bool last = --n_dialling_ == 0;
      if (last) return replica_.Stop();
      if (!dialer.ended().ok()) spdlog::error("{}", Message(dialer.ended()));
    });
  }
}

absl::Status ReplicaClient::Wait() {
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  std::lock_guard lock(mutex_);
  if (stopping_ || leaving_) return absl::OkStatus();
  for (const auto& dialer : dialers_) RETURN_IF_ERROR(dialer->ended());
  return absl::OkStatus();
}

void ReplicaClient::Stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  for (Link* link : links_) link->context.TryCancel();
  stop_.notify_all();
}

void ReplicaClient::Leave() {
  std::lock_guard lock(mutex_);
  leaving_ = true;
  for (Link* link : links_) {
    if (!link->linked) {
      link->context.TryCancel();
      continue;
    }
    std::lock_guard outbox_lock(link->outbox->mutex);
    link->outbox->leaving = true;
    link->outbox->news.notify_all();
  }
  stop_.notify_all();
}

bool ReplicaClient::Open(Link& link) {
  std::lock_guard lock(mutex_);
  if (stopping_ || leaving_) return false;
  links_.push_back(&link);
  return true;
}

void ReplicaClient::Close(Link& link) {
  std::lock_guard lock(mutex_);
  std::erase(links_, &link);
  if (link.linked && --n_linked_ == 0) lost_ = Now();
}

void ReplicaClient::Linked(Link& link) {
  std::lock_guard lock(mutex_);
  link.linked = true;
  ++n_linked_;
  given_up_.clear();
}

bool ReplicaClient::Pause(Duration duration) {
  std::unique_lock lock(mutex_);
  return !stop_.wait_for(lock, duration, [this] { return stopping_ || leaving_; });
}

Duration ReplicaClient::Left() {
  std::lock_guard lock(mutex_);
  return n_linked_ > 0 ? Duration::max() : lost_ + options_.controller_timeout - Now();
}

bool ReplicaClient::GiveUp(Dialer& dialer) {
  std::lock_guard lock(mutex_);
  given_up_.insert(&dialer);
  return given_up_.size() >= n_dialling_;
}

absl::Status ReplicaClient::Dialer::Dial() {
  ASSIGN_OR_RETURN(const auto certificates, TlsStore::Open(options_.tls.files));
  std::shared_ptr<const TlsPem> pem;  // that the stub dials by
  std::unique_ptr<ReplicaService::Stub> stub;
  Duration redial = options_.first_redial;
  while (true) {
    Link link;
    if (auto now = certificates->Get(); now != pem) {
      pem = std::move(now);
      stub = ReplicaService::NewStub(trireme::Dial(address_, options_.tls, *pem, LinkArguments()));
    }
    if (!options_.secret.empty()) link.context.AddMetadata(kReplicaSecretHeader, options_.secret);
    if (!client_.Open(link)) return absl::OkStatus();
    link.stream = stub->Connect(&link.context);
    Converse(link);
    client_.Close(link);
    if (link.sent_home) {
      client_.Leave();
      return absl::OkStatus();
    }
    if (!link.rejected.empty()) {
      return FailedPrecondition("the controller at ", address_,
                                " refuses this replica: ", link.rejected);
    }
    if (link.silent) pem = nullptr;  // over a new connection
    link.status = Explain(link.status, options_.tls);
    const Duration left = client_.Left();
    const bool others = left == Duration::max();
    const std::string how_long =
        others ? "another one is linked" : StrCat("for ", std::ceil(Seconds(left)), " s");
    if (link.registered) {
      redial = options_.first_redial;
      spdlog::warn("the controller at {} is lost ({}); dialling again, {}", address_,
                   Message(link.status), how_long);
    } else if (redial == options_.first_redial) {
      spdlog::warn("no controller at {} yet ({}); dialling, {}", address_, Message(link.status),
                   how_long);
    }
    const bool too_long = left <= Duration::zero();
    if (too_long && client_.GiveUp(*this)) {
      return Unavailable("no controller at ", address_, " for ",
                         Seconds(options_.controller_timeout), " s: ", Message(link.status));
    }
    if (!client_.Pause(too_long ? redial : std::min(redial, left))) return absl::OkStatus();
    redial = std::min(2 * redial, options_.longest_redial);
  }
}

// From Register to the end of the link.
void ReplicaClient::Dialer::Converse(Link& link) {
  {
    std::lock_guard lock(link.mutex);
    link.timeout = options_.registration_timeout;
  }
  std::thread reader([this, &link] { Read(link); });
  std::thread writer([this, &link] { Write(link); });

  {
    std::unique_lock lock(link.mutex);
    while (!link.over && !link.silent) {
      link.news.wait_until(lock, link.last_heard + link.timeout);
      link.silent = !link.over && Now() >= link.last_heard + link.timeout;
    }
  }
  if (link.silent) link.context.TryCancel();
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
  if (link.silent) link.status = Unavailable("nothing heard from it");
}

void ReplicaClient::Dialer::Read(Link& link) {
  ToReplica message;
  while (!link.sent_home && link.rejected.empty() && link.stream->Read(&message)) {
    std::lock_guard lock(link.mutex);
    link.last_heard = Now();
    if (message.has_registered() && !link.registered) {
      link.registered = true;
      link.heartbeat = FromSeconds(message.registered().heartbeat_s());
      link.timeout = FromSeconds(message.registered().timeout_s());
      link.news.notify_all();
      link.engine = client_.replica_.Connect([outbox = link.outbox](StepReport&& report) {
        {
          std::lock_guard lock(outbox->mutex);
          if (outbox->closed) return;
          outbox->reports.push_back(std::move(report));
        }
        outbox->news.notify_all();
      });
      client_.Linked(link);
      spdlog::info("linked to the controller at {}", address_);
    } else if (message.has_reject()) {
      link.rejected = message.reject().reason();
    } else if (message.has_shutdown()) {
      link.sent_home = true;
    } else if (link.registered && message.has_submit()) {
      link.engine->Submit(FromProto(message.submit()));
    } else if (link.registered && message.has_cancel()) {
      link.engine->Cancel(message.cancel().id());
    }
  }
  link.engine.reset();
  std::lock_guard lock(link.mutex);
  link.over = true;
  link.news.notify_all();
}

// Register, then reports, that it leaves when it does, and heartbeats where there is nothing else.
void ReplicaClient::Dialer::Write(Link& link) {
  FromReplica message;
  auto* registration = message.mutable_registration();
  registration->set_revision(options_.revisions.newest);
  registration->set_oldest_revision(options_.revisions.oldest);
  registration->set_instance(client_.instance_);
  *registration->mutable_info() = ToProto(client_.replica_.info());
  if (!link.stream->Write(message)) return;

  Outbox& outbox = *link.outbox;
  bool told_leaving = false;
  while (true) {
    Duration heartbeat;
    {
      std::lock_guard lock(link.mutex);
      heartbeat = link.heartbeat;
    }
    std::deque<StepReport> reports;
    bool leaves;
    {
      std::unique_lock lock(outbox.mutex);
      outbox.news.wait_for(lock, heartbeat, [&] {
        return outbox.closed || !outbox.reports.empty() || outbox.leaving != told_leaving;
      });
      if (outbox.closed) return;
      reports.swap(outbox.reports);
      leaves = outbox.leaving != told_leaving;
    }
    for (const StepReport& report : reports) {
      *message.mutable_report() = ToProto(report);
      if (!link.stream->Write(message)) return;
    }
    if (leaves || reports.empty()) {
      leaves ? void(message.mutable_leaving()) : void(message.mutable_heartbeat());
      if (!link.stream->Write(message)) return;
      told_leaving |= leaves;
    }
  }
}

}  // namespace trireme
