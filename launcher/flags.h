// Flags that several commands share, defined once.
#pragma once

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/log.h"
#include "base/status.h"
#include "runtime/replica_rank.h"
#include "server/grpc_tls.h"

namespace trireme {

// What a replica is made of: generate, serve, worker and bench engine.
class ReplicaFlags {
 public:
  enum class Model { kRequired, kOptional, kNone };

  // FirstGiven() reads `app`.
  void Add(CLI::App& app, Model model);

  // The layout's ranks against those that mpirun or srun started.
  absl::Status CheckRanks() const;

  // The first of these flags but --model that the user gave, in whatever way; empty: none.
  std::string FirstGiven() const;

  const std::string& model_dir() const { return options_.model_dir; }
  const Layout& layout() const { return options_.layout; }
  double step_timeout_s() const { return step_timeout_s_; }
  ReplicaOptions Options() const;

  // The same flags again, for the command line of a worker.
  std::vector<std::string> Arguments() const;

 private:
  ReplicaOptions options_;
  std::string sequence_parallel_ = "auto";
  std::string dtype_;
  std::string device_ = "auto";
  std::string comm_ = "auto";
  std::string activations_ = "auto";
  double step_timeout_s_ = 30;
  bool exact_ = false;
  bool no_prefix_cache_ = false;
  bool no_avx512_ = false;
  std::vector<const CLI::Option*> flags_;  // all but --model
};

// --replica-secret, for both sides. It is better given as TRIREME_REPLICA_SECRET: others see
// command lines.
void AddReplicaSecret(CLI::App& app, std::string* secret);

// --api-key, for clients.
void AddApiKey(CLI::App& app, std::string* key);

// --tls and what belongs to it, for whoever dials a server.
void AddClientTls(CLI::App& app, ClientTls* tls);

// --log-level and --log-format, for commands whose log somebody reads.
void AddLog(CLI::App& app, LogOptions* log);

}  // namespace trireme
