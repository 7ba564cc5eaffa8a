#include "launcher/launch_command.h"

#include <unistd.h>

#include <algorithm>
#include <regex>

#include "base/check.h"

namespace trireme {
namespace {

LaunchCommand Mpirun(int n_ranks, const std::vector<std::string>& launch_args) {
  LaunchCommand command;
  // Ranks pin themselves. A rank that fails takes the job with it: no second of grace for the
  // others.
  command.argv = {
      "mpirun", "-n", StrCat(n_ranks), "--bind-to", "none", "--mca", "odls_base_sigkill_timeout",
      "0"};
  command.argv.insert(command.argv.end(), {"-x", "TRIREME_REPLICA_SECRET"});
  if (!NamesHosts(launch_args)) command.argv.push_back("--oversubscribe");
  if (geteuid() == 0) {
    command.env = {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
  }
  return command;
}

}  // namespace

bool NamesHosts(const std::vector<std::string>& launch_args) {
  const std::vector<std::string> flags = {
      "-H", "-host",      "--host", "-hostfile", "--hostfile", "-machinefile", "--machinefile",
      "-w", "--nodelist", "-N",     "--nodes"};
  return std::any_of(launch_args.begin(), launch_args.end(), [&](const std::string& arg) {
    return std::find(flags.begin(), flags.end(), arg) != flags.end();
  });
}

std::vector<int> CpuShare(const std::vector<int>& cpus, int replica, int n_replicas) {
  const int n = static_cast<int>(cpus.size());
  if (n < n_replicas) return {};
  return {cpus.begin() + n * replica / n_replicas, cpus.begin() + n * (replica + 1) / n_replicas};
}

absl::StatusOr<Launch> ParseLaunch(const std::string& name) {
  if (name == "mpirun") return Launch::kMpirun;
  if (name == "srun") return Launch::kSrun;
  if (name == "none") return Launch::kNone;
  return InvalidArgument("--launch ", name, ": expected mpirun, srun or none");
}

LaunchCommand MakeLaunchCommand(Launch launch, int n_ranks,
                                const std::vector<std::string>& launch_args,
                                const std::vector<std::string>& worker) {
  CHECK(launch != Launch::kNone);
  LaunchCommand command;
  if (launch == Launch::kMpirun) {
    command = Mpirun(n_ranks, launch_args);
  } else {
    command.argv = {"srun", StrCat("--ntasks=", n_ranks), "--mpi=pmix", "--kill-on-bad-exit=1"};
  }
  command.argv.insert(command.argv.end(), launch_args.begin(), launch_args.end());
  command.argv.insert(command.argv.end(), worker.begin(), worker.end());
  return command;
}

absl::StatusOr<std::vector<std::string>> SplitArguments(const std::string& text) {
  std::vector<std::string> arguments;
  bool inside = false;  // an argument has begun
  char quote = 0;
  for (size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    if (!quote && isspace(static_cast<unsigned char>(c))) {
      inside = false;
      continue;
    }
    if (!inside) {
      arguments.emplace_back();
      inside = true;
    }
    if (quote) {
      if (c == quote) {
        quote = 0;
      } else if (c == '\\' && quote == '"' && i + 1 < text.size()) {
        arguments.back() += text[++i];
      } else {
        arguments.back() += c;
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '\\' && i + 1 < text.size()) {
      arguments.back() += text[++i];
    } else {
      arguments.back() += c;
    }
  }
  if (quote) return InvalidArgument("an open quote in: ", text);
  return arguments;
}

std::string JoinArguments(const std::vector<std::string>& arguments) {
  static const std::regex kPlain(R"([\w./:=,@%+-]+)"), kQuote("'");
  std::vector<std::string> quoted;
  for (const std::string& argument : arguments) {
    const bool plain = std::regex_match(argument, kPlain);
    quoted.push_back(plain ? argument
                           : "'" + std::regex_replace(argument, kQuote, R"('\'')") + "'");
  }
  return Join(quoted, " ");
}

std::vector<std::string> FailureNotes::Add(const std::string& line) {
  static const std::regex kRule("-{60,}");
  static const std::regex kSaid(R"(rank \d+ on [^ :]+: .*)");
  static const std::regex kSlurm(
      R"((?:srun|slurmstepd): error: ([^ :]+): tasks? (\d+)[^:]*: (.*))");
  std::smatch match;
  if (std::regex_match(line, kRule)) {
    in_notice_ = !in_notice_;
    if (in_notice_) {
      notice_ = {line};
      known_ = false;
      return {};
    }
    notice_.push_back(line);
    return known_ ? std::vector<std::string>() : std::move(notice_);
  }
  if (in_notice_) {
    notice_.push_back(line);
    ReadNotice(line);
    return {};
  }
  const std::string own = "trireme: ";
  if (line.rfind(own, 0) == 0) {
    if (!said_) said_ = line.substr(own.size());
    return {};
  }
  if (std::regex_match(line, kSaid)) {
    if (!said_) said_ = line;
    return {};
  }
  if (std::regex_match(line, match, kSlurm)) {
    how_ = StrCat("rank ", match[2].str(), " on ", match[1].str(), " ended: ", match[3].str());
    return {};
  }
  return {line};
}

void FailureNotes::ReadNotice(const std::string& line) {
  static const std::regex kSignal(
      R"(.*process rank (\d+) with PID \d+ on node (\S+) exited on (signal \d+ \(.*\))\..*)");
  static const std::regex kName(R"(\s*Process name:\s*\[\[\d+,\d+\],(\d+)\])");
  static const std::regex kCode(R"(\s*Exit code:\s*(\d+))");
  static const std::regex kAbort(R"(MPI_ABORT was invoked on rank (\d+) in .*)");
  std::smatch match;
  if (std::regex_match(line, match, kSignal)) {
    how_ =
        StrCat("rank ", match[1].str(), " on ", match[2].str(), " was killed by ", match[3].str());
    if (match[3].str().starts_with("signal 9 ")) {
      *how_ += StrCat(", which is what the kernel does where memory runs out (see dmesg on ",
                      match[2].str(), ")");
    }
  } else if (std::regex_match(line, match, kName)) {
    rank_ = match[1].str();
  } else if (std::regex_match(line, match, kCode)) {
    how_ = StrCat("rank ", rank_, " exited with code ", match[1].str());
  } else if (std::regex_match(line, match, kAbort)) {
    how_ = StrCat("rank ", match[1].str(), " gave up");
  } else if (line.rfind("Primary job  terminated normally", 0) != 0) {
    return;
  }
  known_ = true;
}

std::optional<std::string> FailureNotes::failure() const { return said_ ? said_ : how_; }

Failure ReadFailure(const std::string& phrase) {
  static const std::regex kRank(R"(rank (\d{1,9}) on ([^ :]+):? (.*))");
  static const std::regex kPlan(
      R"((.*) \((?:after )?plan (\d{1,18}): sequences (\d{1,18}), tokens (\d{1,18})\))");
  Failure failure{.cause = phrase};
  std::smatch match;
  if (std::regex_match(phrase, match, kRank)) {
    failure.rank = std::stoi(match[1]);
    failure.host = match[2];
    failure.cause = match[3];
  }
  if (const std::string rest = failure.cause; std::regex_match(rest, match, kPlan)) {
    failure.cause = match[1];
    failure.plan = std::stoll(match[2]);
    failure.n_sequences = std::stoll(match[3]);
    failure.n_tokens = std::stoll(match[4]);
  }
  return failure;
}

}  // namespace trireme
