// The commands, one file each.
#pragma once

#include <memory>

#include "launcher/command.h"

namespace trireme {

std::unique_ptr<Command> MakeGenerate();
std::unique_ptr<Command> MakeServe();
std::unique_ptr<Command> MakeController();
std::unique_ptr<Command> MakeWorker();
std::unique_ptr<Command> MakeTokenize();
std::unique_ptr<Command> MakeCtlAbort();
std::unique_ptr<Command> MakeCtlDrain();
std::unique_ptr<Command> MakeCtlModels();
std::unique_ptr<Command> MakeCtlStats();
std::unique_ptr<Command> MakeKey();
std::unique_ptr<Command> MakeBenchKernels();
std::unique_ptr<Command> MakeBenchComm();
std::unique_ptr<Command> MakeBenchEngine();
std::unique_ptr<Command> MakeBenchServe();
std::unique_ptr<Command> MakeVersion();

}  // namespace trireme
