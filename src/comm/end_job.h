// How a job ends when it cannot go on: see EndJob() in comm/world.h.
#pragma once

#include <string>

namespace trireme {

// Who this process is in EndJob()'s line, and what ends the other processes of the job (null: there
// are none). Set once, before there are other threads.
void SetJobIdentity(int rank, const std::string& host, void (*end_others)());

// EndJob() in the name of another rank: ranks that are threads share a process. Aborts where there
// are no other processes to end.
[[noreturn]] void EndJobAs(int rank, const std::string& host, const std::string& what);

std::string HostName();

}  // namespace trireme
