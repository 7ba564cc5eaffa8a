// The leader's side of the link to a controller: dials, registers, carries sequences in and reports
// out. A replica whose controller is lost drops its sequences (the controller's ledger has them),
// keeps its weights, and dials again.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "base/status.h"
#include "runtime/replica.h"
#include "server/api.h"
#include "server/grpc_tls.h"

namespace trireme {

class ReplicaClient {
 public:
  struct Options {
    std::string controller;                                  // "host:port"
    ClientTls tls;                                           // files are read again at each dial
    std::string secret;                                      // that the controller asks for
    Duration controller_timeout = std::chrono::seconds(60);  // to find it, at first and again
    Duration first_redial = std::chrono::milliseconds(100);  // doubles up to …
    Duration longest_redial = std::chrono::seconds(2);
    Duration registration_timeout = std::chrono::seconds(30);  // from dialling to Registered
    int32_t revision = 0;                                      // of the protocol; 0: this program's
  };

  ReplicaClient(Replica& replica, Options options);
  ~ReplicaClient();  // Stop, Wait

  // Starts the threads. The replica has run a forward pass.
  void Start();

  // Lets go of the controller; Wait returns OK.
  void Stop();

  // Until it has ended: OK when the controller sent the replica home or after Stop; UNAVAILABLE
  // when the controller was lost for controller_timeout; FAILED_PRECONDITION with the controller's
  // reason when it refused the replica; as ReadTls at first. Replica::Stop has been called by then.
  absl::Status Wait();

 private:
  struct Outbox;
  struct Link;

  absl::Status Run();
  void Converse(Link& link);
  void Read(Link& link);
  void Write(Link& link);
  bool Pause(Duration duration);

  Replica& replica_;
  const Options options_;
  const uint64_t instance_;
  std::thread thread_;
  absl::Status ended_;

  std::mutex mutex_;
  std::condition_variable stop_;  // `stopping_` has become true
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Link* link_ ABSL_GUARDED_BY(mutex_) = nullptr;  // the one there is, to be cancelled
};

}  // namespace trireme
