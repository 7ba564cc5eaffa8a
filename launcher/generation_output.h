// What `generate` prints of a request: the text as it comes, or one JSON object at its end.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "server/api.h"

namespace trireme {

class GenerationOutput {
 public:
  GenerationOutput(bool json, std::FILE* out) : json_(json), out_(out) {}

  void Add(const Event& event);

  bool ended() const { return ended_; }
  const absl::Status& status() const { return status_; }  // why it broke off
  const Finished& finished() const { return finished_; }

 private:
  void Print(const Finished& finished);

  const bool json_;
  std::FILE* const out_;
  uint64_t seed_ = 0;
  std::vector<int32_t> ids_;
  std::string text_;
  Finished finished_;
  bool ended_ = false;
  absl::Status status_;
};

}  // namespace trireme
