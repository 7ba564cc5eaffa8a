// HostChannel: bytes between the ranks of one host, through memory that they share. The host's
// first rank sends plans to all others and takes their reports.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "comm/byte_ring.h"
#include "comm/wait.h"

namespace trireme {

class HostChannel {
 public:
  // Of shared memory, zeroed, aligned to 64; pages that are never used cost nothing.
  static size_t MemoryBytes(int local_size);

  HostChannel(std::byte* memory, int local_rank, int local_size, Waiter& waiter);

  // Local rank 0. Waits only while the ring is full; reports are taken meanwhile.
  void SendPlan(std::span<const std::byte> message);
  std::optional<std::vector<std::byte>> PollReport();
  bool HasReport();

  // Where local rank 0 sleeps; rung by reports and by whoever wants it awake.
  Bell& doorbell() const { return *doorbell_; }

  // The others.
  bool PollPlan(std::vector<std::byte>* message) { return plans_in_->PollMessage(message); }
  Bell& plan_bell() const { return plans_in_->written(); }
  void SendReport(std::span<const std::byte> message);

 private:
  void TakeReports();

  Waiter& waiter_;
  Bell* doorbell_;
  std::optional<RingWriter> plans_out_;  // local rank 0
  std::vector<RingReader> reports_in_;   // local rank 0, by sender
  std::deque<std::vector<std::byte>> reports_;
  std::optional<RingReader> plans_in_;  // the others
  std::optional<RingWriter> reports_out_;
};

}  // namespace trireme
