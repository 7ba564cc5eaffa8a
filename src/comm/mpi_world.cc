// The ranks of MPI_COMM_WORLD. Inside a host everything goes through an MPI shared window; plans,
// reports and tensors for other hosts go through MpiPort.
#include <algorithm>

#include "base/check.h"
#include "comm/local_world.h"
#include "comm/mpi_communicator.h"
#include "comm/mpi_port.h"
#include "comm/self_communicator.h"
#include "comm/shared_communicator.h"

namespace trireme {
namespace {

class MpiWorld : public LocalWorld {
 public:
  explicit MpiWorld(std::unique_ptr<MpiPort> port);
  ~MpiWorld() override { waiter_.set_background(nullptr); }

  int size() const override { return port_->size(); }
  std::vector<std::string> Exchange(const std::string& mine) override {
    return port_->Exchange(mine);
  }
  std::unique_ptr<Communicator> Group(std::span<const int> ranks, Ops& ops) override;

 protected:
  bool has_other_hosts() const override { return port_->first_ranks().size() > 1; }
  bool on_host_of_rank_0() const override { return port_->locals().front() == 0; }
  void SendPlanToHosts(std::span<const std::byte> message) override;
  bool PollPlanFromHost(std::vector<std::byte>* message) override {
    return port_->Take(0, MpiTag::kPlan, message);
  }
  void SendReportToHost(std::span<const std::byte> message) override {
    port_->SendCopy(message, 0, MpiTag::kReport);
  }
  bool PollReportFromHosts(std::vector<std::byte>* message) override {
    return port_->Take(MpiPort::kAnyRank, MpiTag::kReport, message);
  }

 private:
  // Those of `ranks` that are on this host, as local ranks.
  std::vector<int> LocalRanks(std::span<const int> ranks) const;

  std::unique_ptr<MpiPort> port_;
  int n_groups_ = 0;
};

MpiWorld::MpiWorld(std::unique_ptr<MpiPort> port)
    : LocalWorld(port->rank(), port->host(), port->local_rank(),
                 static_cast<int>(port->locals().size()), port->host_cpus()),
      port_(std::move(port)) {
  port_->Attach(waiter_);
  waiter_.set_background([this] { return port_->Progress(); });
  const size_t bytes = local_rank() == 0 ? HostChannel::MemoryBytes(local_size()) : 0;
  OpenChannel(port_->Share(bytes).front());

  // Rank 0 talks with every rank of another host.
  std::vector<int> others;
  if (rank() != 0 && !on_host_of_rank_0()) others.push_back(0);
  for (int other = 1; rank() == 0 && other < port_->size(); ++other) {
    const std::vector<int>& here = port_->locals();
    if (std::find(here.begin(), here.end(), other) == here.end()) others.push_back(other);
  }
  port_->Connect(others, MpiTag::kReport);
}

std::vector<int> MpiWorld::LocalRanks(std::span<const int> ranks) const {
  const std::vector<int>& locals = port_->locals();
  std::vector<int> found;
  for (int rank : ranks) {
    const auto local = std::find(locals.begin(), locals.end(), rank);
    if (local != locals.end()) found.push_back(static_cast<int>(local - locals.begin()));
  }
  return found;
}

std::unique_ptr<Communicator> MpiWorld::Group(std::span<const int> ranks, Ops& ops) {
  CheckGroup(ranks);
  const int call = n_groups_++;
  const std::vector<int> here = LocalRanks(ranks);
  const bool alone = ranks.size() == 1;
  const bool shared = !alone && options_.shared_memory && here.size() == ranks.size();
  const int size = static_cast<int>(ranks.size());

  // Collective over the host, so also for ranks that take no part in a window.
  const std::vector<std::byte*> memory =
      port_->Share(shared ? SharedCommunicator::SegmentBytes(options_, size) : 0);
  if (alone) return std::make_unique<SelfCommunicator>(ops, options_);
  std::vector<int> group(ranks.begin(), ranks.end());
  if (!shared) return std::make_unique<MpiCommunicator>(group, call, options_, ops, *port_);
  std::vector<std::byte*> segments;
  for (int local : here) segments.push_back(memory[static_cast<size_t>(local)]);
  return std::make_unique<SharedCommunicator>(group, segments, options_, ops, waiter_);
}

void MpiWorld::SendPlanToHosts(std::span<const std::byte> message) {
  for (int first : port_->first_ranks()) {
    if (first != 0) port_->SendCopy(message, first, MpiTag::kPlan);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<World>> MakeMpiWorld() {
  ASSIGN_OR_RETURN(std::unique_ptr<MpiPort> port, MpiPort::Start());
  return std::make_unique<MpiWorld>(std::move(port));
}

}  // namespace trireme
