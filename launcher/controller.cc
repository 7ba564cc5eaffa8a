// trireme controller: the front door alone; somebody else starts the replicas, which dial in.
#include "launcher/commands.h"
#include "launcher/front_door.h"

namespace trireme {
namespace {

class ControllerCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override { door_.AddFlags(app); }

  absl::Status Check() override { return door_.Check(/*draws_secret=*/false); }

  absl::Status Run() override {
    RETURN_IF_ERROR(door_.Open("a replica is linked", {}));
    absl::Status end = door_.Wait();
    if (end.ok()) door_.Drain();
    door_.Close(/*stop_replicas=*/false);
    return end;
  }

 private:
  FrontDoor door_;
};

}  // namespace

std::unique_ptr<Command> MakeController() { return std::make_unique<ControllerCommand>(); }

}  // namespace trireme
