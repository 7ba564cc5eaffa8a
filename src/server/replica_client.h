// The leader's side of the links to its controllers: dials each of them, registers, carries
// sequences in and reports out. Sequences of a controller that is lost are dropped (its ledger has
// them); the replica keeps its weights, goes on with the others' and dials again.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/status.h"
#include "runtime/replica.h"
#include "server/api.h"
#include "server/convert.h"
#include "server/grpc_tls.h"

namespace trireme {

class ReplicaClient {
 public:
  struct Options {
    std::vector<std::string> controllers;                    // "host:port" of each
    ClientTls tls;                                           // files are read again at each dial
    std::string secret;                                      // that controllers ask for
    Duration controller_timeout = std::chrono::seconds(60);  // to find one, at first and again
    Duration first_redial = std::chrono::milliseconds(100);  // doubles up to …
    Duration longest_redial = std::chrono::seconds(2);
    Duration registration_timeout = std::chrono::seconds(30);  // from dialling to Registered
    RevisionRange revisions;                                   // of the protocol that are spoken
  };

  ReplicaClient(Replica& replica, Options options);
  ~ReplicaClient();  // Stop, Wait

  // Starts the threads. The replica has run a forward pass.
  void Start();

  // Lets go of the controllers; Wait returns OK.
  void Stop();

  // Until it has ended: OK when a controller has sent the replica home and the others have let it
  // go, or after Stop; UNAVAILABLE when none was there for controller_timeout; FAILED_PRECONDITION
  // with its reason when each that is left has refused the replica; as ReadTls at first.
  // Replica::Stop has been called by then.
  absl::Status Wait();

 private:
  class Dialer;
  struct Link;

  // What the dialers tell each other.
  bool Open(Link& link);          // false: dial no more
  void Linked(Link& link);        // its controller has registered the replica
  void Close(Link& link);         // it is over
  void Leave();                   // a controller has sent the replica home
  bool Pause(Duration duration);  // false: dial no more
  Duration Left();                // until none has been linked for too long; max(): one is
  bool GiveUp(Dialer& dialer);    // true: all have, since one was linked

  Replica& replica_;
  const Options options_;
  const uint64_t instance_;
  std::vector<std::unique_ptr<Dialer>> dialers_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;
  std::condition_variable stop_;  // `stopping_` or `leaving_` has become true
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Link*> links_ ABSL_GUARDED_BY(mutex_);  // dialled, not yet over
  size_t n_linked_ ABSL_GUARDED_BY(mutex_) = 0;
  Time lost_ ABSL_GUARDED_BY(mutex_);  // since when none is
  std::set<Dialer*> given_up_ ABSL_GUARDED_BY(mutex_);
  size_t n_dialling_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace trireme
