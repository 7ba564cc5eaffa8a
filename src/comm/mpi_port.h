// MpiPort: MPI as the rest of the library sees it; no other header or source needs mpi.h. One
// thread calls it. After start nothing blocks: sends and receives are started, and awaited with a
// deadline. An MPI error ends the job with one line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "comm/wait.h"

namespace trireme {

// Which messages of a pair of ranks belong together. Groups that share a pair have their own tags.
struct MpiTag {
  static constexpr int kPlan = 1;
  static constexpr int kReport = 2;
  static int Collective(int group) { return 16 + 2 * group; }
  static int PointToPoint(int group) { return 17 + 2 * group; }
};

class MpiPort {
 public:
  // Initialises MPI and finds the ranks of this host: those that MPI says share memory and that
  // have the same host name.
  static absl::StatusOr<std::unique_ptr<MpiPort>> Start();
  ~MpiPort();  // collective: waits for what is under way and for the others, then finalises MPI

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& host() const { return host_; }
  int local_rank() const { return local_rank_; }
  const std::vector<int>& locals() const { return locals_; }            // ranks of this host
  const std::vector<int>& first_ranks() const { return first_ranks_; }  // of each host, ascending
  int host_cpus() const { return host_cpus_; }  // that this host's ranks may run on, together

  // Before anything below.
  void Attach(Waiter& waiter) { waiter_ = &waiter; }

  // For the start of a job; collective over the world.
  std::vector<std::string> Exchange(const std::string& mine);
  // Memory that this host's ranks share: where each rank's part of `bytes` begins, by local rank.
  // Zeroed, aligned to 64 bytes; lives as long as this. Null pointers if no rank wants any.
  std::vector<std::byte*> Share(size_t bytes);

  // Connects this rank with these, which call it with this rank among theirs: MPI does so with the
  // first message of a pair, which would then take several polls.
  void Connect(std::span<const int> ranks, int tag);

  // Starts a send; `data` must stay until it is done, which is when the receiver has asked for it
  // (MPI_Issend), so that "all done" means that nothing waits for this rank to call MPI again.
  // The number it returns grows from send to send.
  uint64_t Send(const void* data, size_t bytes, int to, int tag);
  // The same from a copy.
  uint64_t SendCopy(std::span<const std::byte> message, int to, int tag);
  // All sends up to this number.
  void AwaitSent(uint64_t last, const char* what, std::chrono::milliseconds timeout);
  // Moves sends on; true while some are under way.
  bool Progress();

  // Starts a receive, then awaits all that were started.
  void Receive(void* data, size_t bytes, int from, int tag);
  void AwaitReceived(const char* what, std::chrono::milliseconds timeout);

  // A message of any size, if one has begun to arrive. from: a rank, or kAnyRank.
  static constexpr int kAnyRank = -1;
  bool Take(int from, int tag, std::vector<std::byte>* message);

 private:
  struct Requests;  // MPI's handles

  MpiPort();
  void FindHost();
  void AwaitAll(void* request, const char* what, std::chrono::milliseconds timeout);
  void Barrier(const char* what, std::chrono::milliseconds timeout);

  std::unique_ptr<Requests> requests_;
  Waiter* waiter_ = nullptr;
  Bell unrung_;  // MPI rings nothing: waits on it are polls
  int rank_ = 0;
  int size_ = 0;
  std::string host_;
  int local_rank_ = 0;
  std::vector<int> locals_;
  std::vector<int> first_ranks_;
  int host_cpus_ = 0;
};

}  // namespace trireme
