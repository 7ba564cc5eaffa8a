#include "comm/lazy_memory.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/str.h"
#include "comm/world.h"

namespace trireme {

LazyMemory::LazyMemory(size_t bytes) : bytes_(std::max<size_t>(bytes, 1)) {
  void* data = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) EndJob(StrCat("no memory for ", bytes, " bytes of tensors on their way"));
  data_ = static_cast<std::byte*>(data);
}

LazyMemory::~LazyMemory() { munmap(data_, bytes_); }

}  // namespace trireme
