#include "bench/mpi_baseline.h"

#include <mpi.h>

namespace trireme {

bool MpiIsRunning() {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized && !finalized;
}

void MpiAllReduce(const float* x, float* y, size_t n) {
  MPI_Allreduce(x, y, static_cast<int>(n), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

}  // namespace trireme
