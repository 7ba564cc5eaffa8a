// What the controller core wants written down of its ledger, so that a controller that is started
// again goes on where this one ended; and what such records amount to.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "server/api.h"
#include "server/model.h"

namespace trireme {

// A model that requests may name; in place of one of the same name.
struct ModelRecord {
  ModelPtr model;
};

struct RequestRecord {
  uint64_t key = 0;  // by which the records below name it
  std::string tenant;
  double weight = 1;
  std::string request_id;
  std::string digest;
  std::string model;
  SequenceRequest sequence;  // of its first choice, with nothing emitted
  int32_t n = 1;
  std::vector<std::string> stops;
  Time arrived;
  std::optional<Time> deadline;
  bool detach = false;
  Duration keep{};
};

// Ids of a choice, which the client is then told.
struct IdsRecord {
  uint64_t key = 0;
  uint32_t choice = 0;
  int32_t offset = 0;
  std::vector<int32_t> ids;
  std::string fingerprint;  // of the replica
  std::vector<TokenLogprobs> logprobs = {};
  std::vector<TokenLogprobs> prompt_logprobs = {};  // with the first ids
};

struct FinishedRecord {
  uint64_t key = 0;
  Finished finished;
};

// The request ended with an error, and waits for a client to be told.
struct FailedRecord {
  uint64_t key = 0;
  absl::Status error;
};

// Nothing remains of the request.
struct GoneRecord {
  uint64_t key = 0;
};

using LedgerRecord =
    std::variant<ModelRecord, RequestRecord, IdsRecord, FinishedRecord, FailedRecord, GoneRecord>;

// A request of an earlier controller.
struct RestoredRequest {
  struct Choice {
    std::vector<int32_t> ids;
    std::string fingerprint;
    std::vector<TokenLogprobs> logprobs, prompt_logprobs;
    std::optional<Finished> finished;
  };
  RequestRecord request;
  std::map<uint32_t, Choice> choices;  // those that got anywhere
  std::optional<absl::Status> error;
};

// What is left of the requests that the records speak of, in order of arrival. Records of no known
// request, and ids after a gap, are passed over.
std::vector<RestoredRequest> Restore(std::span<const LedgerRecord> records);

// INVALID_ARGUMENT for what no controller can have written of a request for `model`: the core goes
// by what admission has checked.
absl::Status CheckRestored(const RestoredRequest& restored, const ServedModel& model);

}  // namespace trireme
