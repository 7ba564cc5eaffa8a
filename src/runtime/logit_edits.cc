#include "runtime/logit_edits.h"

#include <limits>

namespace trireme {

LogitEdits::LogitEdits(const SequenceRequest& request) : penalties_(request.penalties) {
  for (const auto& [id, bias] : request.logit_bias) Of(id).bias = bias;
  if (penalties_.repetition != 1) {
    for (int32_t id : request.prompt_ids) Of(id).repetition = penalties_.repetition;
  }
  for (int32_t id : request.emitted_ids) Count(id);
}

LogitEdit& LogitEdits::Of(int32_t id) {
  const auto [place, added] = places_.try_emplace(id, edits_.size());
  if (added) edits_.push_back({.id = id});
  return edits_[place->second];
}

void LogitEdits::Count(int32_t id) {
  if (!penalties_.any()) return;
  LogitEdit& edit = Of(id);
  edit.repetition = penalties_.repetition;
  edit.penalty = static_cast<float>(++counts_[id]) * penalties_.frequency + penalties_.presence;
}

void LogitEdits::AppendTo(std::vector<LogitEdit>* edits, int32_t row,
                          const std::vector<int32_t>& banned) const {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const size_t begin = edits->size();
  edits->insert(edits->end(), edits_.begin(), edits_.end());
  for (size_t i = begin; i < edits->size(); ++i) (*edits)[i].row = row;
  for (int32_t id : banned) {
    if (auto place = places_.find(id); place != places_.end()) {
      (*edits)[begin + place->second].bias = kNever;
    } else {
      edits->push_back({.row = row, .id = id, .bias = kNever});
    }
  }
}

}  // namespace trireme
