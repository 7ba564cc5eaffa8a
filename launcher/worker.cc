// trireme worker: one rank of a replica. Rank 0 dials the controller.
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/rank.h"
#include "launcher/validators.h"
#include "server/replica_client.h"

namespace trireme {
namespace {

class WorkerCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("--controller", client_.controllers,
                   "where the controller listens; of several, each is served")
        ->required()
        ->delimiter(',')
        ->transform(DialledAddress())
        ->type_name("HOST:PORT,…");
    AddReplicaSecret(app, &client_.secret);
    AddClientTls(app, &client_.tls);
    app.add_option("--controller-timeout", controller_timeout_s_,
                   "seconds to find a controller, at first and whenever none is linked")
        ->transform(Seconds())
        ->type_name("S");
    app.add_option("--served-model-name", served_name_, "default: the directory's name")
        ->type_name("NAME");
    replica_.Add(app, ReplicaFlags::Model::kRequired);
    AddLog(app, &log_);
    app.add_option("--host-replicas", host_replicas_, "that share this host's memory")
        ->transform(AtLeast(1))
        ->type_name("N")
        ->group("");  // from serve
    app.add_option("--replica", replica_index_, "its number in the log")
        ->transform(AtLeast(0))
        ->type_name("N")
        ->group("");  // from serve
  }

  absl::Status Check() override { return replica_.CheckRanks(); }

  absl::Status Run() override {
    ASSIGN_OR_RETURN(std::unique_ptr<World> world, JoinWorld());
    InitLog({.role = "worker", .replica = replica_index_, .rank = world->rank()}, log_);
    ReplicaOptions options = replica_.Options();
    options.host_replicas = host_replicas_;
    options.served_name = served_name_;
    options.number = replica_index_;
    ASSIGN_OR_RETURN(std::unique_ptr<ReplicaRank> rank, LoadRank(options, *world));
    if (world->rank() != 0) {
      rank->Run();
      return absl::OkStatus();
    }
    client_.controller_timeout = FromSeconds(controller_timeout_s_);
    ReplicaClient client(rank->replica(), client_);
    client.Start();
    rank->Run();
    return client.Wait();
  }

 private:
  ReplicaFlags replica_;
  ReplicaClient::Options client_;
  double controller_timeout_s_ = 60;
  std::string served_name_;
  LogOptions log_;
  int replica_index_ = -1;
  int host_replicas_ = 1;
};

}  // namespace

std::unique_ptr<Command> MakeWorker() { return std::make_unique<WorkerCommand>(); }

}  // namespace trireme
