// Where the controller's loop has its ledger written (ledger_file.h).
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "server/ledger_record.h"

namespace trireme {

// Used on one thread.
class LedgerStore {
 public:
  virtual ~LedgerStore() = default;

  // What an earlier controller wrote; once.
  virtual std::vector<LedgerRecord> TakeRecords() = 0;

  // These records instead of all before, first of all. An error leaves what was there.
  virtual absl::Status Rewrite(std::span<const LedgerRecord> records) = 0;

  // What cannot be written now is kept and written as soon as it can be.
  virtual void Append(std::span<const LedgerRecord> records) = 0;

  // Whether there is room for one more request: RESOURCE_EXHAUSTED saying why not.
  virtual absl::Status Ready() = 0;

  // Whether there was none, when it was tried last.
  virtual bool full() const = 0;

  // So much of it is of the past that Rewrite is worth its while.
  virtual bool WantsRewrite() const = 0;
};

}  // namespace trireme
