// trireme serve: a controller, and a supervisor that keeps its replicas running.
#include <sched.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>

#include "absl/synchronization/mutex.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/front_door.h"
#include "launcher/supervisor.h"
#include "launcher/validators.h"
#include "nlohmann/json.hpp"
#include "server/controller_loop.h"
#include "server/keys.h"

namespace trireme {
namespace {

// Replicas that were told to leave take about as long as MPI_Finalize.
constexpr std::chrono::milliseconds kLeave{3000};

std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (CPU_ISSET(i, &set)) cpus.push_back(i);
  }
  return cpus;
}

class ServeCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    replica_.Add(app, ReplicaFlags::Model::kRequired);
    app.add_option("--replicas", n_replicas_, "copies of the model; requests go to the least busy")
        ->transform(AtLeast(1))
        ->type_name("N");
    app.add_option("--served-model-name", served_name_, "default: the directory's name")
        ->type_name("NAME");
    app.add_option("--launch", launch_name_,
                   "what starts the ranks: mpirun, srun, or none: you, by the lines that it prints")
        ->check(OneOf({"mpirun", "srun", "none"}))
        ->type_name("HOW");
    app.add_option("--launch-args", launch_args_text_, "more arguments for mpirun or srun")
        ->type_name("ARGS");
    app.add_option("--start-timeout", start_timeout_s_,
                   "a replica that is not ready by then is ended and started again")
        ->transform(Seconds())
        ->type_name("TIME");
    door_.AddFlags(app);
    app.add_option(
           "--replica-tls-cert", replica_tls_.cert,
           "with --tls-client-ca: the certificate that replicas show; default: the server's")
        ->type_name("FILE");
    app.add_option("--replica-tls-key", replica_tls_.key, "its key")->type_name("FILE");
  }

  absl::Status Check() override {
    ASSIGN_OR_RETURN(launch_, ParseLaunch(launch_name_));
    RETURN_IF_ERROR(door_.Check(/*draws_secret=*/launch_ != Launch::kNone));
    auto arguments = SplitArguments(launch_args_text_);
    if (!arguments.ok()) return Annotate(arguments.status(), "--launch-args");
    launch_args_ = *std::move(arguments);
    if (launch_ == Launch::kNone && !launch_args_.empty()) {
      return InvalidArgument("--launch-args is for --launch mpirun or srun");
    }
    return absl::OkStatus();
  }

  absl::Status Run() override {
    RETURN_IF_ERROR(PrepareTls());
    SupervisorOptions options;
    options.n_replicas = launch_ == Launch::kNone ? 0 : n_replicas_;
    options.command = [this](int replica) { return CommandOf(replica); };
    options.on_line = [](int replica, const std::string& line) {
      if (LogIsJson() && !line.starts_with('{')) {  // mpirun's own
        return spdlog::info("replica {}: {}", replica, line);
      }
      std::fprintf(stderr, "%s\n", line.c_str());
    };
    options.on_hopeless = [this](int replica, const std::string& why) {
      door_.Fail(Unavailable("replica ", replica, ": ", why));
    };
    options.on_failed = [this](int replica, const std::string& why) {
      NoteFailed(replica, StrCat("replica ", replica, " fails again and again: ", why));
    };
    options.start_timeout = std::chrono::milliseconds(std::llround(1e3 * start_timeout_s_));
    // Nobody else is to join.
    if (launch_ != Launch::kNone && door_.replica_secret().empty()) {
      door_.set_replica_secret(NewKey());
    }
    supervisor_.emplace(std::move(options));
    RETURN_IF_ERROR(
        door_.Open(Describe(), {.silence = FromSeconds(replica_.step_timeout_s()),
                                .on_linked =
                                    [this](int32_t replica, uint64_t link) {
                                      NoteLinked(replica);
                                      supervisor_->Linked(replica, link);
                                    },
                                .on_lost =
                                    [this](const TellLost& lost) {
                                      supervisor_->Lost(lost.number, lost.link, LossFields(lost));
                                      if (lost.silent)
                                        supervisor_->Silent(lost.number, lost.link, lost.reason);
                                    }}));
    if (launch_ == Launch::kNone) PrintWorkers();
    RETURN_IF_ERROR(supervisor_->Start());
    absl::Status end = door_.Wait();
    if (end.ok()) door_.Drain();
    supervisor_->LetGo();
    door_.Close(/*stop_replicas=*/launch_ != Launch::kNone);
    supervisor_->Stop(kLeave);
    return end;
  }

 private:
  // How replicas dial: they trust the server's own certificate, by a name that is in it, whatever
  // the address is, and show theirs if it asks.
  absl::Status PrepareTls() {
    if (door_.tls().cert.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const TlsPem server, ReadTls(door_.tls()));
    const std::string name = CertifiedName(server.cert);
    if (name.empty()) return InvalidArgument(door_.tls().cert, ": names no host that it is for");
    tls_arguments_ = {"--tls-ca", Absolute(door_.tls().cert), "--tls-server-name", name};
    if (door_.tls().ca.empty()) return absl::OkStatus();
    if (replica_tls_.cert.empty()) replica_tls_ = {door_.tls().cert, door_.tls().key};
    ASSIGN_OR_RETURN(const TlsPem replica, ReadTls(replica_tls_));
    if (auto status = CheckAsClient(replica.cert, server.ca); !status.ok()) {
      return Annotate(status, StrCat(replica_tls_.cert,
                                     ": replicas show it, and --tls-client-ca "
                                     "refuses it; give --replica-tls-cert and --replica-tls-key"));
    }
    tls_arguments_.insert(tls_arguments_.end(), {"--tls-cert", Absolute(replica_tls_.cert),
                                                 "--tls-key", Absolute(replica_tls_.key)});
    return absl::OkStatus();
  }

  static std::string Absolute(const std::string& path) { return std::filesystem::absolute(path); }

  // Requests do not wait for replicas that have all failed.
  void NoteFailed(int replica, const std::string& why) {
    absl::MutexLock lock(&mutex_);
    failed_.insert(replica);
    if (static_cast<int>(failed_.size()) == n_replicas_) door_.Outage(why);
  }

  void NoteLinked(int replica) {
    absl::MutexLock lock(&mutex_);
    failed_.erase(replica);
  }

  std::string Describe() const {
    const Layout& layout = replica_.layout();
    return StrCat("tp=", layout.tp, " pp=", layout.pp, " replicas=", n_replicas_);
  }

  // For whoever starts the ranks: mpirun -n RANKS COMMAND, once for each line.
  void PrintWorkers() const {
    for (int i = 0; i < n_replicas_; i++) {
      std::printf("start %d ranks of %s\n", replica_.layout().n_ranks(),
                  JoinArguments(WorkerCommandLine(i)).c_str());
    }
    std::fflush(stdout);
  }

  std::vector<std::string> WorkerCommandLine(int replica) const {
    const bool other_hosts = launch_ != Launch::kMpirun || NamesHosts(launch_args_);
    std::vector<std::string> worker = {
        program_,      "worker",          "--controller", DialAddress(door_.address(), other_hosts),
        "--log-level", door_.log().level, "--log-format", door_.log().format};
    if (!served_name_.empty()) {
      worker.insert(worker.end(), {"--served-model-name", served_name_});
    }
    worker.insert(worker.end(), tls_arguments_.begin(), tls_arguments_.end());
    const std::vector<std::string> model = replica_.Arguments();
    worker.insert(worker.end(), model.begin(), model.end());
    worker.insert(worker.end(), {"--replica", StrCat(replica)});
    if (!other_hosts) worker.insert(worker.end(), {"--host-replicas", StrCat(n_replicas_)});
    return worker;
  }

  LaunchCommand CommandOf(int replica) const {
    LaunchCommand command = MakeLaunchCommand(launch_, replica_.layout().n_ranks(), launch_args_,
                                              WorkerCommandLine(replica));
    // Everything else is on the command line.
    command.env.insert(command.env.end(),
                       {"TRIREME_CONFIG", "TRIREME_TLS", "TRIREME_TLS_CA", "TRIREME_TLS_CERT",
                        "TRIREME_TLS_KEY", "TRIREME_TLS_SERVER_NAME"});
    command.env.push_back("TRIREME_REPLICA_SECRET=" + door_.replica_secret());
    if (launch_ == Launch::kMpirun && !NamesHosts(launch_args_)) {
      command.cpus = CpuShare(AllowedCpus(), replica, n_replicas_);
    }
    return command;
  }

  // Now: the file may be replaced while this runs.
  const std::string program_ = std::filesystem::read_symlink("/proc/self/exe");
  ReplicaFlags replica_;
  TlsFiles replica_tls_;
  std::vector<std::string> tls_arguments_;  // of a worker
  std::optional<Supervisor> supervisor_;
  absl::Mutex mutex_;
  std::set<int> failed_ ABSL_GUARDED_BY(mutex_);
  FrontDoor door_;  // calls the supervisor
  int n_replicas_ = 1;
  double start_timeout_s_ = 1800;
  std::string served_name_;
  std::string launch_name_ = "mpirun";
  std::string launch_args_text_;
  Launch launch_ = Launch::kMpirun;
  std::vector<std::string> launch_args_;
};

}  // namespace

std::unique_ptr<Command> MakeServe() { return std::make_unique<ServeCommand>(); }

}  // namespace trireme
