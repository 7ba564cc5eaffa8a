#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace trireme {

namespace {

uint64_t Edge(int32_t node, char byte) {
  return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)), nodes_(1) {
  for (size_t i = 0; i < stops_.size(); ++i) {
    int32_t at = 0;
    for (char byte : stops_[i]) {
      const auto [it, inserted] =
          edges_.try_emplace(Edge(at, byte), static_cast<int32_t>(nodes_.size()));
      if (inserted) nodes_.push_back({.depth = nodes_[at].depth + 1});
      at = it->second;
    }
    if (at != 0 && nodes_[at].match < 0) nodes_[at].match = static_cast<int32_t>(i);
  }
  AddFailureLinks();
}

void StopMatcher::AddFailureLinks() {
  // Shallow nodes first, so that the node a link leads to is finished before it is followed.
  std::vector<std::pair<uint64_t, int32_t>> edges(edges_.begin(), edges_.end());
  std::sort(edges.begin(), edges.end(), [this](const auto& a, const auto& b) {
    return nodes_[a.second].depth < nodes_[b.second].depth;
  });
  for (const auto& [edge, at] : edges) {
    const auto parent = static_cast<int32_t>(edge >> 8);
    if (parent != 0) {
      nodes_[at].failure = Next(nodes_[parent].failure, static_cast<char>(edge & 0xFF));
    }
    if (nodes_[at].match < 0) nodes_[at].match = nodes_[nodes_[at].failure].match;
  }
}

int32_t StopMatcher::Next(int32_t node, char byte) const {
  while (true) {
    const auto it = edges_.find(Edge(node, byte));
    if (it != edges_.end()) return it->second;
    if (node == 0) return 0;
    node = nodes_[node].failure;
  }
}

StopMatcher::Result StopMatcher::Push(std::string_view text) {
  if (matched_) return {"", matched_};
  withheld_ += text;
  for (size_t i = withheld_.size() - text.size(); i < withheld_.size(); ++i) {
    node_ = Next(node_, withheld_[i]);
    const int32_t match = nodes_[node_].match;
    if (match >= 0) {
      matched_ = match;
      std::string emit = withheld_.substr(0, i + 1 - stops_[match].size());
      withheld_.clear();
      return {std::move(emit), matched_};
    }
  }
  const size_t safe = withheld_.size() - static_cast<size_t>(nodes_[node_].depth);
  std::string emit = withheld_.substr(0, safe);
  withheld_.erase(0, safe);
  return {std::move(emit), std::nullopt};
}

std::string StopMatcher::Flush() { return std::exchange(withheld_, {}); }

}  // namespace trireme
