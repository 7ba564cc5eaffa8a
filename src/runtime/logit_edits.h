// LogitEdits: what a sequence's bias, penalties and banned ids do to the logits of its next draw.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kernels/ops.h"
#include "runtime/request.h"

namespace trireme {

class LogitEdits {
 public:
  LogitEdits() = default;
  explicit LogitEdits(const SequenceRequest& request);

  // They are known when the last id is.
  bool follow_ids() const { return penalties_.any(); }

  // `id` has been generated.
  void Count(int32_t id);

  // Those of the next draw, in row `row` of its plan; with the ids of `banned`, distinct ones.
  void AppendTo(std::vector<LogitEdit>* edits, int32_t row,
                const std::vector<int32_t>& banned) const;

 private:
  LogitEdit& Of(int32_t id);

  Penalties penalties_;
  std::vector<LogitEdit> edits_;                 // one of an id
  std::unordered_map<int32_t, size_t> places_;   // in edits_, by id
  std::unordered_map<int32_t, int32_t> counts_;  // of generated ids
};

}  // namespace trireme
