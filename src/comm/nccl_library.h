// NCCL as it is loaded: the calls that we make. A program that needs no NCCL (one GPU, none) also
// starts where there is no libnccl, so it is opened when it is needed and not linked.
#pragma once

#include <nccl.h>

#include "base/status.h"

namespace trireme {

struct NcclLibrary {
  decltype(&ncclGetVersion) GetVersion;
  decltype(&ncclGetErrorString) GetErrorString;
  decltype(&ncclGetUniqueId) GetUniqueId;
  decltype(&ncclCommInitRankConfig) CommInitRankConfig;
  decltype(&ncclCommGetAsyncError) CommGetAsyncError;
  decltype(&ncclCommFinalize) CommFinalize;
  decltype(&ncclCommDestroy) CommDestroy;
  decltype(&ncclCommAbort) CommAbort;
  decltype(&ncclGroupStart) GroupStart;
  decltype(&ncclGroupEnd) GroupEnd;
  decltype(&ncclAllReduce) AllReduce;
  decltype(&ncclReduceScatter) ReduceScatter;
  decltype(&ncclAllGather) AllGather;
  decltype(&ncclSend) Send;
  decltype(&ncclRecv) Recv;
};

// Once per process. NOT_FOUND where there is no libnccl.so.2 or it lacks a call.
absl::StatusOr<const NcclLibrary*> LoadNccl();

}  // namespace trireme
