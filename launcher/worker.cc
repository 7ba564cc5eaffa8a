// trireme worker: one rank of a replica. Rank 0 dials the controller.
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/rank.h"
#include "server/replica_client.h"

namespace trireme {
namespace {

class WorkerCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("--controller", client_.controller, "where the controller listens")
        ->required()
        ->type_name("HOST:PORT");
    app.add_option("--controller-timeout", controller_timeout_s_,
                   "seconds to find the controller, at first and whenever it is lost")
        ->type_name("S");
    app.add_option("--served-model-name", served_name_, "default: the directory's name")
        ->type_name("NAME");
    replica_.Add(app, ReplicaFlags::Model::kRequired);
    AddLogLevel(app, &log_level_);
    app.add_option("--replica", replica_index_, "its number in the log")
        ->type_name("N")
        ->group("");  // from serve
  }

  absl::Status Check() override {
    if (!(controller_timeout_s_ > 0)) {
      return InvalidArgument("--controller-timeout: expected seconds, not ", controller_timeout_s_);
    }
    return replica_.CheckRanks();
  }

  absl::Status Run() override {
    ASSIGN_OR_RETURN(std::unique_ptr<World> world, JoinWorld());
    const std::string replica = replica_index_ < 0 ? "" : StrCat("replica ", replica_index_, " ");
    InitLog(StrCat(replica, "rank ", world->rank()), log_level_);
    ReplicaOptions options = replica_.Options();
    options.served_name = served_name_;
    const ReplicaProgress progress = world->rank() == 0 ? ProgressBar() : ReplicaProgress();
    ASSIGN_OR_RETURN(std::unique_ptr<ReplicaRank> rank,
                     ReplicaRank::Load(options, *world, progress));
    rank->WarmUp();
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
  std::string log_level_ = "info";
  int replica_index_ = -1;
};

}  // namespace

std::unique_ptr<Command> MakeWorker() { return std::make_unique<WorkerCommand>(); }

}  // namespace trireme
