// Who may ask: API keys, of which a file holds the hashes.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/status.h"
#include "server/api.h"
#include "server/refusal_log.h"

namespace trireme {

// SHA-256 in hexadecimal (FIPS 180-4).
std::string Sha256(std::string_view bytes);

// Whether they are equal, in a time that depends on their lengths alone.
bool SameSecret(std::string_view a, std::string_view b);

// A new key: 256 random bits, so that its plain hash cannot be searched for.
std::string NewKey();

struct Caller {
  std::string tenant;
  bool admin = false;       // may look at the server and steer it
  double weight = 1;        // the tenant's share of the service
  size_t max_requests = 0;  // choices at a time; 0: no bound of its own
};

// Makes it the caller's.
void Own(const Caller& caller, GenerateRequest& request);

// A line is `TENANT SHA256-OF-THE-KEY [admin] [weight=X] [max-requests=N]`; # begins a comment. A
// tenant may have several keys. The file is read again when it has changed; one that is wrong then
// is told of in the log, and the keys from before stay. Thread-safe.
class KeyFile {
 public:
  // NOT_FOUND, or INVALID_ARGUMENT naming the line.
  static absl::StatusOr<std::unique_ptr<KeyFile>> Open(const std::string& path);

  // Whose key that is; UNAUTHENTICATED if it is nobody's.
  absl::StatusOr<Caller> Check(std::string_view key);

 private:
  struct Entry {
    std::string hash;
    Caller caller;
  };
  explicit KeyFile(std::string path) : path_(std::move(path)) {}
  absl::StatusOr<std::vector<Entry>> Read() const;
  void ReadAgain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  std::mutex mutex_;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::filesystem::file_time_type written_ ABSL_GUARDED_BY(mutex_);
};

// Who may do what at a controller. Without keys everybody may do everything.
class Doorkeeper {
 public:
  Doorkeeper(std::unique_ptr<KeyFile> keys, std::string replica_secret)
      : keys_(std::move(keys)), replica_secret_(std::move(replica_secret)) {}

  // `authorization`: the header of that name, "Bearer KEY"; empty if there is none.
  // UNAUTHENTICATED without a key that is known.
  absl::StatusOr<Caller> Admit(std::string_view authorization) const;

  // The same; PERMISSION_DENIED if the key is no admin's.
  absl::Status AdmitAdmin(std::string_view authorization) const;

  // To be told of whom Admit or AdmitAdmin refuses, for the log; `peer`: its address.
  void Refused(std::string_view peer, const absl::Status& why) const { refusals_.Note(peer, why); }

  // Whether whoever dials as a replica knows the secret that replicas are given.
  bool AdmitsReplica(std::string_view secret) const {
    return replica_secret_.empty() || SameSecret(secret, replica_secret_);
  }

 private:
  const std::unique_ptr<KeyFile> keys_;
  const std::string replica_secret_;
  mutable RefusalLog refusals_;
};

}  // namespace trireme
