// Which requests are let in, and what a replica is given for one.
#pragma once

#include <string_view>

#include "server/api.h"
#include "server/model.h"

namespace trireme {

inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 1024;  // of all stop strings together
inline constexpr size_t kMaxStopIds = 128;
inline constexpr size_t kMaxCacheSaltBytes = 256;
inline constexpr size_t kMaxBiases = 1024;
inline constexpr int64_t kMaxPromptScores = 1 << 20;  // logprobs of prompts in one answer

// At most kMaxRequestIdBytes of printable ASCII without spaces.
bool IsRequestId(std::string_view id);

// The sequence that `request` asks for, with every default filled in; its id is still 0.
// `request.ids` are the prompt's. `context_length` is what each replica of the model can hold,
// `seed` is used if the request has none. INVALID_ARGUMENT or FAILED_PRECONDITION naming field,
// value and range, the field also as request_fault.h has it.
absl::StatusOr<SequenceRequest> MakeSequence(const GenerateRequest& request,
                                             const ServedModel& model, int32_t context_length,
                                             uint64_t seed);

}  // namespace trireme
