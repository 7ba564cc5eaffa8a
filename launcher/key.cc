// trireme key: a new API key.
#include <cstdio>

#include "launcher/commands.h"
#include "server/keys.h"

namespace trireme {
namespace {

class KeyCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("tenant", tenant_, "whose it is: a name without spaces")
        ->required()
        ->type_name("TENANT");
    app.add_flag("--admin", admin_, "it may also look at the server and steer it");
  }

  absl::Status Check() override {
    if (tenant_.empty() || tenant_.find_first_of(" \t\n#") != std::string::npos) {
      return InvalidArgument("tenant ", tenant_, ": expected a name without spaces and #");
    }
    return absl::OkStatus();
  }

  absl::Status Run() override {
    const std::string key = NewKey();
    std::fprintf(stderr, "the key, which is kept nowhere: %s\n", key.c_str());
    std::printf("%s %s%s\n", tenant_.c_str(), Sha256(key).c_str(), admin_ ? " admin" : "");
    return absl::OkStatus();
  }

 private:
  std::string tenant_;
  bool admin_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeKey() { return std::make_unique<KeyCommand>(); }

}  // namespace trireme
