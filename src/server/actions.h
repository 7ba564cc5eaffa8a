// What the controller core wants done. Whoever drives it does it in order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/api.h"
#include "server/ledger_record.h"
#include "server/model.h"

namespace trireme {

// To the replica of a link:
struct SendRegistered {  // it is linked; its model may be published
  uint64_t link;
  ModelPtr model;
};
struct SendSubmit {
  uint64_t link;
  SequenceRequest sequence;
};
struct SendCancel {
  uint64_t link;
  uint64_t sequence_id;
};
struct SendHeartbeat {
  uint64_t link;
};
struct SendShutdown {
  uint64_t link;
};

// The link is over; nothing more is sent to it or taken from it.
struct CloseLink {
  uint64_t link;
  std::string reason;  // one line
  bool rejected;       // redialling would not help
};

// To the client of a request; nothing follows an event that IsLast.
struct TellClient {
  uint64_t key;
  Event event;
};

// To whoever watches the request.
struct TellProgress {
  uint64_t key;
  Progress progress;
};

// To the log, and to whoever started the replica.
struct TellLost {
  uint64_t link;
  int32_t number;  // ReplicaInfo::number
  std::string line;
  std::string reason;
  int64_t plans_committed;            // as far as it had said
  bool silent;                        // nothing is heard from it, but its processes may live
  std::vector<std::string> requests;  // ids of those that it had
};

// Something was measured: seconds, tokens or a count.
enum class Measure {
  kTimeToFirstToken,
  kInterTokenLatency,
  kTimePerOutputToken,
  kEndToEnd,
  kQueueTime,
  kPrefillTime,
  kDecodeTime,
  kPromptTokens,
  kNewTokens,
  kInferenceTime,
  kGenerationTokens,
  kMostGenerationTokens,  // of a request's choices
  kMaxTokens,
  kChoices,
  kEnded,     // a request, for `reason`
  kRefused,   // a request, for `reason`; of no model
  kDiskFull,  // whether the disk has no room for the ledger: 0 or 1; of no model
};
struct Observe {
  Measure what;
  ModelPtr model;
  double value = 1;
  std::string_view reason = {};  // of static storage
  std::string tenant = {};       // of kPromptTokens and kNewTokens
};

// To be on disk before what follows is done.
struct AppendRecord {
  LedgerRecord record;
};

struct WriteLog {
  bool warning;
  std::string line;  // never a prompt or a text
};

using Action =
    std::variant<SendRegistered, SendSubmit, SendCancel, SendHeartbeat, SendShutdown, CloseLink,
                 TellClient, TellProgress, TellLost, Observe, AppendRecord, WriteLog>;
using Actions = std::vector<Action>;

}  // namespace trireme
