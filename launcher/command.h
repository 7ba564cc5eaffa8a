// The subcommands of the program, and how each becomes flags, environment, a config file and
// --help.
#pragma once

#include <memory>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/status.h"

namespace trireme {

class Command {
 public:
  virtual ~Command() = default;

  virtual void AddFlags(CLI::App& app) = 0;

  // What flags together must fulfil; an error ends the program with code 2, as a bad flag does.
  virtual absl::Status Check() { return absl::OkStatus(); }

  // The work. An error ends the program with one line on stderr and code 1; CANCELLED: somebody
  // pressed Ctrl-C, code 130 and no line.
  virtual absl::Status Run() = 0;
};

struct CommandEntry {
  const char* name;
  const char* summary;  // one line
  const char* examples;
  std::unique_ptr<Command> (*make)();
};

const std::vector<CommandEntry>& Commands();

// The command's parser: its flags, each also TRIREME_<NAME> in the environment and `name = value`
// in the file that --config names (at the top or under [command]). A flag goes before the
// environment, the environment before the file. `app` refers to `command`, which must outlive it.
std::unique_ptr<CLI::App> MakeParser(const CommandEntry& entry, Command& command);

// The environment variable of a flag: --kv-cache-bytes is TRIREME_KV_CACHE_BYTES.
std::string EnvironmentName(const std::string& flag);

// The whole program; returns its exit code: 0, 1, 2 (a bad command line) or 130.
int Main(int argc, char** argv);

}  // namespace trireme
