// World: the ranks of one replica, and host bytes between them (plans down, results up).
//
// Three ways to be one: a single rank without MPI; the ranks of MPI_COMM_WORLD; ranks as threads of
// one process, for tests. Inside a host, bytes and tensors move through shared memory (an MPI
// shared window, or plain memory between threads); between hosts through MPI. The main thread alone
// calls MPI (MPI_THREAD_FUNNELED), and nothing blocks in it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "comm/communicator.h"
#include "kernels/ops.h"

namespace trireme {

using Deadline = std::chrono::steady_clock::time_point;
inline constexpr Deadline kNoDeadline = Deadline::max();

struct WorldOptions {
  std::chrono::milliseconds timeout{30000};  // on every wait for a peer that does the same work
  // On Send and Recv, whose peer may be at its own share of a step. Rank 0 notices a hang sooner.
  std::chrono::milliseconds stage_timeout{600000};
  size_t max_parts_bytes = 0;   // largest parts of one rank that will move in one call
  size_t max_tensor_bytes = 0;  // largest tensor sent, received or gathered
  bool shared_memory = true;    // false: tensors go through MPI inside a host, too
  int n_threads = 1;  // that compute in each rank: where they exceed the CPUs, no wait spins
};

class World {
 public:
  // Collective: waits for the other ranks. A rank that cannot go on calls EndJob() instead.
  virtual ~World() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_rank() const = 0;  // among the ranks of this host
  virtual int local_size() const = 0;
  virtual const std::string& host() const = 0;

  // Every rank's text, by rank. Collective; used at start to compare what must be equal.
  virtual std::vector<std::string> Exchange(const std::string& mine) = 0;

  // Sizes the shared memory; collective, once, before Group().
  virtual void Reserve(const WorldOptions& options) = 0;
  virtual const WorldOptions& options() const = 0;  // as reserved

  // A communicator over these ranks (ascending, containing this one), which must not outlive the
  // world. Collective over the world: every rank calls it the same number of times; ranks of
  // disjoint groups may call it together.
  virtual std::unique_ptr<Communicator> Group(std::span<const int> ranks, Ops& ops) = 0;

  // Plans: rank 0 publishes bytes to all ranks, in order, without waiting for them unless the ring
  // is full. The others wait for the next, and end the job when it takes longer than `patience`.
  virtual void Publish(std::span<const std::byte> message) = 0;
  virtual std::vector<std::byte> NextPublished(std::chrono::milliseconds patience) = 0;
  std::vector<std::byte> NextPublished() { return NextPublished(std::chrono::milliseconds::max()); }
  virtual std::optional<std::vector<std::byte>> PollPublished() = 0;  // the next, if it is here

  // Results: any rank to rank 0, in order per sender; rank 0 polls.
  virtual void Report(std::span<const std::byte> message) = 0;
  virtual std::optional<std::vector<std::byte>> PollReport() = 0;

  // Rank 0 sleeps until a report may be there, Wake() was called, or the deadline passed.
  // `expect_report`: a rank of another host may report, so MPI has to be polled.
  virtual void Wait(Deadline deadline, bool expect_report) = 0;
  virtual void Wake() = 0;  // from any thread of rank 0's process
};

std::unique_ptr<World> MakeSingleWorld();

// n worlds that share memory: each is used by one thread.
std::vector<std::unique_ptr<World>> MakeThreadWorlds(int n);

// True if this process was started by mpirun or srun with more than one rank.
bool LaunchedByMpi();

// Initialises MPI. FAILED_PRECONDITION if MPI gives no thread support, or sees fewer ranks than the
// launcher started (srun without an MPI plugin).
absl::StatusOr<std::unique_ptr<World>> MakeMpiWorld();

// Ends the whole job with one line on stderr: "rank R on HOST: WHAT (plan …)". From any thread.
[[noreturn]] void EndJob(const std::string& what);

// What this process works on, for the line that it may end with; id -1: nothing.
struct WorkInHand {
  int64_t plan_id = -1;
  int64_t n_sequences = 0;
  int64_t n_tokens = 0;
};
void NoteWork(const WorkInHand& work);
void NoteWorkDone();  // the line says "after plan …" from now on

// From now on a signal such as SIGSEGV is told in such a line before it does what it does, and an
// exception that nobody catches, such as std::bad_alloc, ends the job with one.
void TellOfCrashes();

}  // namespace trireme
