// Memory of the device, and of the host where the device can copy from and to it at full speed.
#pragma once

#include "kernels/device.h"

namespace trireme::cuda {

// Uninitialised, 256-byte aligned. Both end the process with one line when memory runs out.
Buffer AllocateDevice(size_t bytes);
Buffer AllocatePinned(size_t bytes);

}  // namespace trireme::cuda
