// StepPlan: what every rank does next. StepResult: what came of it. Flat, so that all ranks read
// the same bytes.
//
// Example: sequence A is prefilled with its last 3 tokens, B decodes one; both want an id.
//   tokens     a5 a6 a7 | b9         q_starts   0 3 4
//   positions   5  6  7 |  9         kv_lens    8 10
//   slots      ...                   samples    rows 2 and 3
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "runtime/request.h"

namespace trireme {

// One row of the step's output that an id is drawn from, or one whose logprobs alone are wanted.
struct SampleRow {
  int32_t row = 0;  // index into tokens
  SamplingParams params;
  uint32_t choice = 0;
  uint32_t token_index = 0;  // index of the id to draw among the generated ones
  int32_t given = -1;        // the id that follows in a prompt: what is drawn is of no use
  int32_t n_top = -1;        // logprobs of the id and of so many others; -1: none
};

struct StepPlan {
  enum class Kind : int32_t { kStep, kStop };
  Kind kind = Kind::kStep;
  bool sequence_parallel = false;
  int64_t id = 0;                    // ascending
  std::vector<int32_t> tokens;       // [T] sequences one after the other; ~i: id i of the last plan
  std::vector<int32_t> positions;    // [T]
  std::vector<int32_t> slots;        // [T] KV slot that each token is written to
  std::vector<int32_t> q_starts;     // [S+1]
  std::vector<int32_t> kv_lens;      // [S] after this step
  std::vector<int32_t> block_table;  // [S,max_blocks], -1 pads
  int32_t max_blocks = 0;
  std::vector<DropoutRow> dropout;  // [T], or empty where no row has any
  std::vector<SampleRow> samples;
  std::vector<LogitEdit> edits;  // rows are indices into samples

  int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t n_sequences() const { return static_cast<int64_t>(kv_lens.size()); }
};

struct StepResult {
  int64_t plan_id = 0;
  std::vector<int32_t> ids;  // one per StepPlan::samples, in their order
  // For each sample that wants logprobs: the id's, then its n_top.
  std::vector<Scored> logprobs;
};

std::vector<std::byte> Serialize(const StepPlan& plan);
std::vector<std::byte> Serialize(const StepResult& result);
// CHECK-fail on bytes that Serialize did not write: they come from our own binary.
StepPlan ParsePlan(std::span<const std::byte> bytes);
StepResult ParseResult(std::span<const std::byte> bytes);

}  // namespace trireme
