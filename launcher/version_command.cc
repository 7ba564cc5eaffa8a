// trireme version: what this program is built of.
#include <cstdio>

#include "kernels/cpu/cpu_ops.h"
#include "launcher/commands.h"
#include "launcher/version.h"

namespace trireme {
namespace {

class VersionCommand : public Command {
 public:
  void AddFlags(CLI::App&) override {}

  absl::Status Run() override {
    std::printf("%s (%s)\n", VersionLine().c_str(), std::string(CpuTargetName(true)).c_str());
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<Command> MakeVersion() { return std::make_unique<VersionCommand>(); }

}  // namespace trireme
