// The command that starts one replica, and what its output says when it fails.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace trireme {

enum class Launch { kMpirun, kSrun, kNone };  // kNone: somebody else starts the replicas

absl::StatusOr<Launch> ParseLaunch(const std::string& name);

struct LaunchCommand {
  std::vector<std::string> argv;
  std::vector<std::string> env;  // NAME=value, or NAME to remove it
  std::vector<int> cpus;         // that it may run on; empty: all of this process's
};

// `worker`: program and arguments of one rank; `launch_args`: the user's own, e.g. {"-H",
// "a:4,b:4"}.
LaunchCommand MakeLaunchCommand(Launch launch, int n_ranks,
                                const std::vector<std::string>& launch_args,
                                const std::vector<std::string>& worker);

// True if these arguments of mpirun or srun say where the ranks run.
bool NamesHosts(const std::vector<std::string>& launch_args);

// The CPUs of replica `replica` among `n_replicas` on this host: a contiguous share; empty (all)
// where there are fewer CPUs than replicas.
std::vector<int> CpuShare(const std::vector<int>& cpus, int replica, int n_replicas);

// Splits as a shell would: blanks, '…', "…", backslash. INVALID_ARGUMENT for an open quote.
absl::StatusOr<std::vector<std::string>> SplitArguments(const std::string& text);

// The inverse: quotes what a shell would split or expand.
std::string JoinArguments(const std::vector<std::string>& arguments);

// What such a phrase as FailureNotes::failure() tells.
struct Failure {
  int rank = -1;  // -1: it names none
  std::string host;
  std::string cause;  // the signal, the call or what else the rank said
  int64_t plan = -1;  // -1: it names none
  int64_t n_sequences = 0;
  int64_t n_tokens = 0;
};
Failure ReadFailure(const std::string& phrase);

// Reads the lines that a replica prints. What tells why it ends is taken out of the stream and
// becomes one phrase: the program's own last line, Open MPI's and Slurm's notices of a failed rank.
class FailureNotes {
 public:
  // The lines to show for this one: none while a notice is collected.
  std::vector<std::string> Add(const std::string& line);

  // "rank 1 on node7 was killed by signal 9 (Killed)"; or what a rank said of it first, which tells
  // more ("rank 0 on node7: …", "trireme: …"); nothing if no line told.
  std::optional<std::string> failure() const;

 private:
  void ReadNotice(const std::string& line);

  bool in_notice_ = false;
  bool known_ = false;  // the notice being collected is one of those that we phrase ourselves
  std::vector<std::string> notice_;
  std::string rank_;
  std::optional<std::string> how_;  // the rank ended
  std::optional<std::string> said_;
};

}  // namespace trireme
