#include "kernels/cpu/memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace trireme::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// Aligned to a huge page: the ends of a larger mapping are given back.
void* MapHuge(size_t bytes) {
  const size_t size = RoundUp(bytes, kHugePage);
  void* mapped = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<char*>(mapped);
  auto* aligned = reinterpret_cast<char*>(RoundUp(reinterpret_cast<size_t>(begin), kHugePage));
  const auto before = static_cast<size_t>(aligned - begin);
  if (before > 0) munmap(begin, before);
  if (before < kHugePage) munmap(aligned + size, kHugePage - before);
  madvise(aligned, size, MADV_HUGEPAGE);  // a hint: ordinary pages do as well
  return aligned;
}

}  // namespace

Buffer AllocateZeroed(size_t bytes) {
  if (bytes >= kHugePage) {
    return Buffer(MapHuge(bytes), bytes,
                  [](void* data, size_t size) { munmap(data, RoundUp(size, kHugePage)); });
  }
  const size_t size = RoundUp(bytes > 0 ? bytes : 1, Arena::kAlignment);
  void* data = std::aligned_alloc(Arena::kAlignment, size);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, size);
  return Buffer(data, bytes, [](void* data, size_t) { std::free(data); });
}

}  // namespace trireme::cpu
