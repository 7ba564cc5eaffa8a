// Stop strings in a text that comes in parts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace trireme {

// One per generated choice; for one thread. The result does not depend on how the text is cut into
// parts. (Aho & Corasick 1975)
class StopMatcher {
 public:
  // Valid UTF-8. An empty stop string never matches.
  explicit StopMatcher(std::vector<std::string> stops);

  struct Result {
    std::string emit;            // text that is safe to show: no stop string can start in it
    std::optional<int> matched;  // index of the stop string; `emit` is the text up to its start
  };

  // The stop string that is complete first counts; of those that end together, the longest.
  // After a match there is nothing more to emit.
  Result Push(std::string_view text);

  // What was withheld as the possible start of a stop string. Nothing may be pushed after.
  std::string Flush();

 private:
  struct Node {           // of a trie over the bytes of all stop strings
    int32_t depth = 0;    // how many bytes of a stop string have been read here
    int32_t failure = 0;  // the node of the longest proper suffix that starts a stop string
    int32_t match = -1;   // the longest stop string that ends here
  };

  void AddFailureLinks();
  int32_t Next(int32_t node, char byte) const;

  std::vector<std::string> stops_;
  std::vector<Node> nodes_;
  absl::flat_hash_map<uint64_t, int32_t> edges_;  // node << 8 | byte -> node
  int32_t node_ = 0;
  std::string withheld_;  // the last bytes of the text, nodes_[node_].depth of them
  std::optional<int> matched_;
};

}  // namespace trireme
