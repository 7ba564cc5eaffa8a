// MPI's own collectives, to measure ours against.
#pragma once

#include <cstddef>

namespace trireme {

bool MpiIsRunning();

// y = the sum of all ranks' x over MPI_COMM_WORLD.   x, y: [n]
void MpiAllReduce(const float* x, float* y, size_t n);

}  // namespace trireme
