// The ledger on disk: one file of framed, checked records (proto/trireme/ledger/v1), appended to,
// and rewritten where most of it is of the past. It outlives the controller's process; it is not
// synced, so that a host which loses its power may lose the last seconds of it.
#pragma once

#include <memory>
#include <string>

#include "server/ledger_store.h"
#include "server/model.h"

namespace trireme {

struct LedgerFileOptions {
  // Set aside for what runs: where the disk has no more, no request is accepted.
  size_t reserve_bytes = 16u << 20;
  // Rewritten beyond this, and twice what was left the last time.
  size_t rewrite_bytes = 64u << 20;
};

class LedgerFile : public LedgerStore {
 public:
  // Makes `dir` (mode 0700) if there is none, and reads what it has, with `models` to make sense of
  // tokenizers. FAILED_PRECONDITION if another controller uses it, DATA_LOSS if the file is none of
  // this version's; INTERNAL with the system's reason.
  static absl::StatusOr<std::unique_ptr<LedgerFile>> Open(const std::string& dir,
                                                          const ModelRegistry& models,
                                                          LedgerFileOptions options = {});
  ~LedgerFile() override;

  std::vector<LedgerRecord> TakeRecords() override { return std::move(records_); }
  absl::Status Rewrite(std::span<const LedgerRecord> records) override;
  void Append(std::span<const LedgerRecord> records) override;
  absl::Status Ready() override;
  bool full() const override { return full_; }
  bool WantsRewrite() const override;

 private:
  LedgerFile(std::string dir, LedgerFileOptions options)
      : dir_(std::move(dir)), options_(options) {}
  std::string path() const { return dir_ + "/ledger"; }
  absl::Status Lock();
  absl::Status Read(const ModelRegistry& models);
  absl::Status Replace(const std::string& bytes);
  void Write();
  bool Reserve();

  const std::string dir_;
  const LedgerFileOptions options_;
  std::vector<LedgerRecord> records_;  // read at start
  int lock_ = -1;
  int file_ = -1;
  std::string pending_;       // to be written
  size_t size_ = 0;           // bytes written
  size_t live_ = 0;           // of them, when it was last rewritten
  size_t rewrite_above_ = 0;  // bytes, after a rewrite that failed
  size_t reserved_ = 0;       // bytes that the disk has promised, with those written
  bool full_ = false;
};

}  // namespace trireme
