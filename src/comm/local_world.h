// LocalWorld: what every World does the same way: bytes between the ranks of one host. The hooks
// say how bytes reach the ranks of other hosts; without any, this host is the world.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/host_channel.h"
#include "comm/world.h"

namespace trireme {

class LocalWorld : public World {
 public:
  int rank() const override { return waiter_.rank(); }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  const std::string& host() const override { return waiter_.host(); }

  void Reserve(const WorldOptions& options) override;
  const WorldOptions& options() const override { return options_; }
  void Publish(std::span<const std::byte> message) override;
  std::vector<std::byte> NextPublished(std::chrono::milliseconds patience) override;
  std::optional<std::vector<std::byte>> PollPublished() override;
  void Report(std::span<const std::byte> message) override;
  std::optional<std::vector<std::byte>> PollReport() override;
  void Wait(Deadline deadline, bool expect_report) override;
  void Wake() override;

 protected:
  // `host_cpus`: that the ranks of this host may run on, together.
  LocalWorld(int rank, std::string host, int local_rank, int local_size, int host_cpus)
      : waiter_(rank, std::move(host), local_size <= host_cpus),
        local_rank_(local_rank),
        local_size_(local_size),
        host_cpus_(host_cpus) {}

  // Once, before any message; memory of HostChannel::MemoryBytes(), the same for all of this host.
  void OpenChannel(std::byte* memory) {
    channel_.emplace(memory, local_rank_, local_size_, waiter_);
  }

  // Group()'s preconditions.
  void CheckGroup(std::span<const int> ranks) const;

  // Other hosts. Rank 0 sends plans, its polls take reports; the first rank of each other host
  // takes plans; every rank of another host sends reports.
  virtual bool has_other_hosts() const { return false; }
  virtual void SendPlanToHosts(std::span<const std::byte>) {}
  virtual bool PollPlanFromHost(std::vector<std::byte>*) { return false; }
  virtual void SendReportToHost(std::span<const std::byte>) {}
  virtual bool PollReportFromHosts(std::vector<std::byte>*) { return false; }
  virtual bool on_host_of_rank_0() const { return true; }

  Waiter waiter_;
  WorldOptions options_;
  bool reserved_ = false;

 private:
  bool HasReport(bool poll_hosts);
  bool TakePlan(std::vector<std::byte>* message);

  int local_rank_;
  int local_size_;
  int host_cpus_;
  std::optional<HostChannel> channel_;
  std::deque<std::vector<std::byte>> plans_;    // taken from rank 0, not asked for yet
  std::deque<std::vector<std::byte>> reports_;  // rank 0: its own and those of other hosts
  std::atomic<bool> woken_{false};
};

}  // namespace trireme
