#include "server/ledger_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "boost/crc.hpp"
#include "server/convert.h"
#include "server/convert_logprobs.h"
#include "trireme/ledger/v1/ledger.pb.h"

namespace trireme {
namespace {

namespace pb = ledger::v1;
using std::chrono::microseconds;

constexpr std::string_view kMagic = "TRILEDGR";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 12, kFrameBytes = 8;

// ---- Times: on disk since 1970, in the core by a clock that starts anew with the host.

int64_t SinceEpoch(Time time) {
  const auto wall = std::chrono::system_clock::now() + (time - std::chrono::steady_clock::now());
  return std::chrono::duration_cast<microseconds>(wall.time_since_epoch()).count();
}

// What no clock says is the begin or the end of what clocks say.
microseconds Sane(int64_t us) { return microseconds(std::clamp<int64_t>(us, 0, int64_t{1} << 53)); }

Time FromEpoch(int64_t us) {
  const auto ago = std::chrono::system_clock::now().time_since_epoch() - Sane(us);
  return std::chrono::steady_clock::now() - std::chrono::duration_cast<Duration>(ago);
}

// ---- Records.

void Fill(const ModelRecord& record, pb::Record& proto) {
  const ServedModel& model = *record.model;
  *proto.mutable_model() = ToProto(ReplicaInfo{.model = model.name,
                                               .fingerprint = "-",
                                               .tokenizer_json = model.tokenizer_json,
                                               .tokenizer_config_json = model.tokenizer_config_json,
                                               .chat_template = model.chat_template,
                                               .eos_ids = model.eos_ids,
                                               .vocab_size = model.vocab_size,
                                               .context_length = model.context_length,
                                               .max_rows = 1,
                                               .dtype = model.dtype,
                                               .activations = model.activations});
}

void Fill(const RequestRecord& record, pb::Record& proto) {
  pb::Request& request = *proto.mutable_request();
  request.set_key(record.key);
  request.set_tenant(record.tenant);
  request.set_weight(record.weight);
  request.set_request_id(record.request_id);
  request.set_digest(record.digest);
  request.set_model(record.model);
  *request.mutable_sequence() = ToProto(record.sequence);
  request.set_n(record.n);
  for (const std::string& stop : record.stops) request.add_stop(stop);
  request.set_arrived_us(SinceEpoch(record.arrived));
  if (record.deadline.has_value()) request.set_deadline_us(SinceEpoch(*record.deadline));
  request.set_detach(record.detach);
  request.set_keep_us(std::chrono::duration_cast<microseconds>(record.keep).count());
}

void Fill(const IdsRecord& record, pb::Record& proto) {
  pb::Ids& ids = *proto.mutable_ids();
  ids.set_key(record.key);
  ids.set_choice(record.choice);
  ids.set_offset(record.offset);
  ids.mutable_ids()->Assign(record.ids.begin(), record.ids.end());
  ids.set_fingerprint(record.fingerprint);
  Assign(record.logprobs, ids.mutable_logprobs());
  Assign(record.prompt_logprobs, ids.mutable_prompt_logprobs());
}

void Fill(const FinishedRecord& record, pb::Record& proto) {
  proto.mutable_finished()->set_key(record.key);
  v1::GenerateEvent event = ToProto(Event(record.finished));
  *proto.mutable_finished()->mutable_finished() = std::move(*event.mutable_finished());
}

void Fill(const FailedRecord& record, pb::Record& proto) {
  proto.mutable_failed()->set_key(record.key);
  proto.mutable_failed()->set_code(static_cast<int32_t>(record.error.code()));
  proto.mutable_failed()->set_message(Message(record.error));
}

void Fill(const GoneRecord& record, pb::Record& proto) {
  proto.mutable_gone()->set_key(record.key);
}

RequestRecord FromProto(pb::Request&& proto) {
  RequestRecord record;
  record.key = proto.key();
  record.tenant = std::move(*proto.mutable_tenant());
  record.weight = proto.weight();
  record.request_id = std::move(*proto.mutable_request_id());
  record.digest = std::move(*proto.mutable_digest());
  record.model = std::move(*proto.mutable_model());
  record.sequence = trireme::FromProto(proto.sequence());
  record.n = proto.n();
  record.stops = {proto.stop().begin(), proto.stop().end()};
  record.arrived = FromEpoch(proto.arrived_us());
  if (proto.has_deadline_us()) record.deadline = FromEpoch(proto.deadline_us());
  record.detach = proto.detach();
  record.keep = Sane(proto.keep_us());
  return record;
}

std::optional<LedgerRecord> FromProto(pb::Record&& proto, const ModelRegistry& models) {
  switch (proto.record_case()) {
    case pb::Record::kModel: {
      auto model = models.Prepare(trireme::FromProto(std::move(*proto.mutable_model())));
      if (model.ok()) return ModelRecord{*std::move(model)};
      spdlog::warn("the ledger's model: {}", Message(model.status()));
      return std::nullopt;
    }
    case pb::Record::kRequest:
      return FromProto(std::move(*proto.mutable_request()));
    case pb::Record::kIds: {
      const pb::Ids& ids = proto.ids();
      return IdsRecord{ids.key(),
                       ids.choice(),
                       ids.offset(),
                       {ids.ids().begin(), ids.ids().end()},
                       ids.fingerprint(),
                       ToLogprobs(ids.logprobs()),
                       ToLogprobs(ids.prompt_logprobs())};
    }
    case pb::Record::kFinished: {
      v1::GenerateEvent event;
      *event.mutable_finished() = std::move(*proto.mutable_finished()->mutable_finished());
      return FinishedRecord{proto.finished().key(),
                            std::get<Finished>(trireme::FromProto(std::move(event)))};
    }
    case pb::Record::kFailed:
      if (proto.failed().code() == 0) break;
      return FailedRecord{proto.failed().key(),
                          absl::Status(static_cast<absl::StatusCode>(proto.failed().code()),
                                       proto.failed().message())};
    case pb::Record::kGone:
      return GoneRecord{proto.gone().key()};
    case pb::Record::RECORD_NOT_SET:
      break;
  }
  return std::nullopt;
}

// ---- Frames.

void PutUint32(uint32_t value, std::string& to) {
  for (int shift = 0; shift < 32; shift += 8) to += static_cast<char>(value >> shift & 0xff);
}

uint32_t GetUint32(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  return value;
}

uint32_t Crc32c(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

void PutRecord(const LedgerRecord& record, std::string& to) {
  pb::Record proto;
  std::visit([&](const auto& r) { Fill(r, proto); }, record);
  const std::string payload = proto.SerializeAsString();
  PutUint32(static_cast<uint32_t>(payload.size()), to);
  PutUint32(Crc32c(payload), to);
  to += payload;
}

std::string Header() {
  std::string header(kMagic);
  PutUint32(kVersion, header);
  return header;
}

absl::Status SystemError(const std::string& what) {
  return Internal(what, ": ", std::strerror(errno));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LedgerFile>> LedgerFile::Open(const std::string& dir,
                                                             const ModelRegistry& models,
                                                             LedgerFileOptions options) {
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files is an error, not an end
  std::unique_ptr<LedgerFile> ledger(new LedgerFile(dir, options));
  RETURN_IF_ERROR(ledger->Lock());
  RETURN_IF_ERROR(ledger->Read(models));
  return ledger;
}

LedgerFile::~LedgerFile() {
  if (file_ >= 0) close(file_);
  if (lock_ >= 0) close(lock_);
}

absl::Status LedgerFile::Lock() {
  if (mkdir(dir_.c_str(), 0700) != 0 && errno != EEXIST) return SystemError("--ledger-dir " + dir_);
  struct stat about {};
  if (stat(dir_.c_str(), &about) != 0) return SystemError("--ledger-dir " + dir_);
  if (!S_ISDIR(about.st_mode)) return FailedPrecondition("--ledger-dir ", dir_, " is no directory");
  if ((about.st_mode & 077) != 0) {
    return FailedPrecondition("--ledger-dir ", dir_,
                              " is open to others, and prompts are written there: chmod 700");
  }
  lock_ = open((dir_ + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) return SystemError(dir_ + "/lock");
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    return FailedPrecondition("--ledger-dir ", dir_, " is used by another controller");
  }
  return absl::OkStatus();
}

absl::Status LedgerFile::Read(const ModelRegistry& models) {
  if (!FileExists(path())) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path()));
  const std::string header = Header();
  if (std::string_view(bytes).substr(0, kHeaderBytes) != header) {
    if (bytes.size() < kHeaderBytes && header.starts_with(bytes)) return absl::OkStatus();
    return DataLoss(path(), " is no ledger of version ", kVersion,
                    ": move it away, or use the program that wrote it");
  }
  std::string_view rest = std::string_view(bytes).substr(kHeaderBytes);
  while (rest.size() >= kFrameBytes) {
    const size_t size = GetUint32(rest);
    if (rest.size() - kFrameBytes < size) break;
    const std::string_view payload = rest.substr(kFrameBytes, size);
    pb::Record proto;
    if (GetUint32(rest.substr(4)) != Crc32c(payload) ||
        !proto.ParseFromArray(payload.data(), static_cast<int>(size))) {
      break;
    }
    if (auto record = FromProto(std::move(proto), models)) records_.push_back(*std::move(record));
    rest.remove_prefix(kFrameBytes + size);
  }
  if (!rest.empty()) {
    spdlog::warn("{}: its last {} bytes are no whole record and are left out", path(), rest.size());
  }
  return absl::OkStatus();
}

// ---- Writing.

absl::Status LedgerFile::Rewrite(std::span<const LedgerRecord> records) {
  std::string bytes = Header();
  for (const LedgerRecord& record : records) PutRecord(record, bytes);
  if (auto status = Replace(bytes); !status.ok()) {
    rewrite_above_ = size_ + options_.rewrite_bytes;  // it grows on, and this is tried again
    return Annotate(status, "the ledger cannot be rewritten");
  }
  live_ = size_ = reserved_ = bytes.size();
  rewrite_above_ = 0;
  pending_.clear();
  Write();
  return absl::OkStatus();
}

absl::Status LedgerFile::Replace(const std::string& bytes) {
  const std::string fresh = path() + ".new";
  const int file = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return SystemError(fresh);
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t n = write(file, bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == ENOSPC && reserved_ > size_ &&
        bytes.size() <= options_.reserve_bytes / 2) {
      // What is set aside is room enough.
      reserved_ = size_;
      if (ftruncate(file_, static_cast<off_t>(size_)) == 0) continue;
    }
    if (n < 0) {
      const absl::Status status = SystemError(fresh);
      close(file);
      unlink(fresh.c_str());
      return status;
    }
    at += static_cast<size_t>(n);
  }
  if (rename(fresh.c_str(), path().c_str()) != 0) {
    const absl::Status status = SystemError(path());
    close(file);
    return status;
  }
  if (file_ >= 0) close(file_);
  file_ = file;
  return absl::OkStatus();
}

void LedgerFile::Append(std::span<const LedgerRecord> records) {
  for (const LedgerRecord& record : records) PutRecord(record, pending_);
  Write();
}

void LedgerFile::Write() {
  size_t written = 0;
  while (written < pending_.size()) {
    const ssize_t n = pwrite(file_, pending_.data() + written, pending_.size() - written,
                             static_cast<off_t>(size_ + written));
    if (n <= 0) break;
    written += static_cast<size_t>(n);
  }
  size_ += written;
  pending_.erase(0, written);
  const bool has_room = pending_.empty() && Reserve();
  if (full_ == !has_room) return;
  full_ = !has_room;
  if (has_room) {
    spdlog::info("{}: there is room again", path());
  } else {
    spdlog::error(
        "{}: {}; no request is accepted until there is room for {} bytes, what runs goes on",
        path(), std::strerror(errno), options_.reserve_bytes);
  }
}

// Has the disk promise what is set aside beyond what is written, where it can promise.
bool LedgerFile::Reserve() {
  if (reserved_ >= size_ + options_.reserve_bytes / 2) return true;
  const int error = fallocate(file_, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size_),
                              static_cast<off_t>(options_.reserve_bytes));
  if (error != 0 && errno != EOPNOTSUPP) return false;
  reserved_ = size_ + options_.reserve_bytes;
  return true;
}

absl::Status LedgerFile::Ready() {
  if (full_) Write();
  if (!full_) return absl::OkStatus();
  return ResourceExhausted("the disk of the controller's ledger is full: retry later");
}

bool LedgerFile::WantsRewrite() const {
  return file_ >= 0 && size_ > std::max(2 * live_ + options_.rewrite_bytes, rewrite_above_);
}

}  // namespace trireme
