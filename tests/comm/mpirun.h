// Runs a program of ranks under mpirun, for tests of what ends a job.
#pragma once

#include <stdio.h>
#include <sys/wait.h>

#include <algorithm>
#include <string>

#include "base/str.h"

namespace trireme {

struct Outcome {
  int exit_code;  // 124: it hung
  std::string output;

  int LinesWith(const std::string& text) const {
    const std::vector<std::string> lines = SplitString(output, '\n');
    return static_cast<int>(std::count_if(lines.begin(), lines.end(), [&](const auto& line) {
      return line.find(text) != std::string::npos;
    }));
  }
};

// `command`: the program and its arguments; `environment`: "NAME=value …".
inline Outcome RunRanks(int n, const std::string& command, const std::string& environment = "") {
  const std::string line =
      StrCat(environment,
             " OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
             "OMPI_MCA_btl_vader_single_copy_mechanism=none timeout 60 mpirun --oversubscribe "
             "--bind-to none -n ",
             n, " ", command, " 2>&1");
  FILE* pipe = popen(line.c_str(), "r");
  std::string output;
  char buffer[4096];
  for (size_t bytes; (bytes = fread(buffer, 1, sizeof(buffer), pipe)) > 0;)
    output.append(buffer, bytes);
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, output};
}

}  // namespace trireme
