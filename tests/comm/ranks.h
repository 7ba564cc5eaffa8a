// Runs a test's body on every rank of a world, whichever way the ranks are made.
#pragma once

#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "comm/world.h"
#include "kernels/ops.h"

namespace trireme {

struct Ranks {
  int n = 1;
  bool mpi = false;     // the ranks of mpirun, of which this process is one; else threads
  bool staged = false;  // by way of host memory, as for a device that has no communicator
};
inline void PrintTo(const Ranks& ranks, std::ostream* out) {
  *out << ranks.n << (ranks.mpi ? " MPI ranks" : " threads") << (ranks.staged ? ", staged" : "");
}

// Under mpirun: its ranks. Otherwise one rank alone, and 2, 3, 4 and 8 threads, if `at_least` so
// many. 3 of either staged, too.
std::vector<Ranks> AllRanks(int at_least = 1);

inline std::string RanksName(const Ranks& ranks) {
  return (ranks.staged ? "Staged" : "") +
         std::string(ranks.mpi      ? "Mpi"
                     : ranks.n == 1 ? "Self"
                                    : "Threads") +
         std::to_string(ranks.n);
}

// What every test world is reserved with.
WorldOptions TestOptions();

// Calls body(world) on each rank, and returns when all of this process are done.
void RunOnRanks(const Ranks& ranks, const std::function<void(World&)>& body);

// All that a communicator asks of a device: SumParts in the plainest way.
std::unique_ptr<Ops> MakeSumOps();

// The MPI ranks' world; one per process.
World& MpiTestWorld();
void SetMpiTestWorld(World* world);

}  // namespace trireme
