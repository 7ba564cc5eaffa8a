#include "base/build_id.h"

#include <elf.h>
#include <link.h>

#include <cstring>

namespace trireme {
namespace {

// The GNU build-id note among the notes of one segment; empty if absent.
std::string FindBuildId(const char* notes, size_t size) {
  std::string id;
  for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= size;) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes + at, sizeof(note));
    const size_t name = at + sizeof(note);
    const size_t data = name + (note.n_namesz + 3u) / 4 * 4;
    at = data + (note.n_descsz + 3u) / 4 * 4;
    if (at > size) break;
    if (note.n_type != NT_GNU_BUILD_ID || std::memcmp(notes + name, "GNU", 4) != 0) continue;
    for (size_t i = 0; i < note.n_descsz; ++i) {
      constexpr char kHex[] = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(notes[data + i]);
      id += kHex[byte >> 4];
      id += kHex[byte & 15];
    }
  }
  return id;
}

// The first object that dl_iterate_phdr names is the program itself.
int FirstObject(dl_phdr_info* info, size_t, void* result) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const std::string id = FindBuildId(
        reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr), header.p_memsz);
    if (!id.empty()) *static_cast<std::string*>(result) = id;
  }
  return 1;
}

}  // namespace

std::string BuildId() {
  std::string id;
  dl_iterate_phdr(FirstObject, &id);
  return id;
}

}  // namespace trireme
