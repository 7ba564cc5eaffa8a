#include "comm/nccl_library.h"

#include <dlfcn.h>

#include "base/str.h"

namespace trireme {
namespace {

constexpr char kFile[] = "libnccl.so.2";

absl::StatusOr<NcclLibrary> Open() {
  void* file = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (file == nullptr) return NotFound("NCCL cannot be loaded: ", dlerror());
  NcclLibrary nccl = {};
  std::string missing;
  const auto find = [&](const char* name, auto& call) {
    call = reinterpret_cast<std::remove_reference_t<decltype(call)>>(dlsym(file, name));
    if (call == nullptr) missing = name;
  };
  find("ncclGetVersion", nccl.GetVersion);
  find("ncclGetErrorString", nccl.GetErrorString);
  find("ncclGetUniqueId", nccl.GetUniqueId);
  find("ncclCommInitRankConfig", nccl.CommInitRankConfig);
  find("ncclCommGetAsyncError", nccl.CommGetAsyncError);
  find("ncclCommFinalize", nccl.CommFinalize);
  find("ncclCommDestroy", nccl.CommDestroy);
  find("ncclCommAbort", nccl.CommAbort);
  find("ncclGroupStart", nccl.GroupStart);
  find("ncclGroupEnd", nccl.GroupEnd);
  find("ncclAllReduce", nccl.AllReduce);
  find("ncclReduceScatter", nccl.ReduceScatter);
  find("ncclAllGather", nccl.AllGather);
  find("ncclSend", nccl.Send);
  find("ncclRecv", nccl.Recv);
  if (!missing.empty()) return NotFound(kFile, " has no ", missing, ": NCCL is too old");
  return nccl;
}

}  // namespace

absl::StatusOr<const NcclLibrary*> LoadNccl() {
  static const absl::StatusOr<NcclLibrary> library = Open();
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace trireme
