// A world that hands everything on to another: a test overrides what it is about.
#pragma once

#include "comm/world.h"

namespace trireme {

class ForwardingWorld : public World {
 public:
  explicit ForwardingWorld(World& world) : world_(world) {}

  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int local_rank() const override { return world_.local_rank(); }
  int local_size() const override { return world_.local_size(); }
  const std::string& host() const override { return world_.host(); }
  std::vector<std::string> Exchange(const std::string& mine) override {
    return world_.Exchange(mine);
  }
  void Reserve(const WorldOptions& options) override { world_.Reserve(options); }
  const WorldOptions& options() const override { return world_.options(); }
  std::unique_ptr<Communicator> Group(std::span<const int> ranks, Ops& ops) override {
    return world_.Group(ranks, ops);
  }
  void Publish(std::span<const std::byte> message) override { world_.Publish(message); }
  std::vector<std::byte> NextPublished(std::chrono::milliseconds patience) override {
    return world_.NextPublished(patience);
  }
  std::optional<std::vector<std::byte>> PollPublished() override { return world_.PollPublished(); }
  void Report(std::span<const std::byte> message) override { world_.Report(message); }
  std::optional<std::vector<std::byte>> PollReport() override { return world_.PollReport(); }
  void Wait(Deadline deadline, bool expect_report) override {
    world_.Wait(deadline, expect_report);
  }
  void Wake() override { world_.Wake(); }

 protected:
  World& world_;
};

}  // namespace trireme
