// What `generate` prints of a request: the text as it comes, or one JSON object at its end. Several
// choices are printed one after the other when all have ended.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "server/api.h"

namespace trireme {

class GenerationOutput {
 public:
  GenerationOutput(bool json, std::FILE* out, int32_t n = 1)
      : json_(json), out_(out), choices_(static_cast<size_t>(n)) {}

  void Add(const Event& event);

  bool ended() const { return ended_; }
  const absl::Status& status() const { return status_; }  // why it broke off
  const Finished& finished() const { return choices_[0].finished; }

 private:
  struct Choice {
    std::vector<int32_t> ids;
    std::string text;
    std::vector<TokenLogprobs> logprobs, prompt_logprobs;
    Finished finished;
  };

  void PrintText() const;
  void PrintJson() const;

  const bool json_;
  std::FILE* const out_;
  uint64_t seed_ = 0;
  std::vector<Choice> choices_;
  bool ended_ = false;
  absl::Status status_;
};

}  // namespace trireme
