// Runs a fuzz target once on every file of the folders named on the command line: the corpus
// replayed by compilers that have no libFuzzer.
#include <cstdint>
#include <cstdio>
#include <filesystem>

#include "base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  int n_inputs = 0;
  for (int i = 1; i < argc; i++) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      auto input = trireme::ReadFile(entry.path());
      if (!input.ok()) {
        std::fprintf(stderr, "%s\n", std::string(input.status().message()).c_str());
        return 1;
      }
      std::printf("%s\n", entry.path().c_str());
      std::fflush(stdout);  // names the input that crashes
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input->data()), input->size());
      n_inputs++;
    }
  }
  if (n_inputs == 0) {
    std::fprintf(stderr, "the corpus is empty\n");
    return 1;
  }
}
