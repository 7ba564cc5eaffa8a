// A ledger's file of any bytes, and what a controller does that starts with it: it is refused, or
// read up to what is no record; then its requests run, end, and are written again so that the next
// controller reads all of them.
// Input: a byte; if it is odd, records follow, each a size (two bytes, the low one first) and as
// many bytes, which are put into a file with the CRCs that it needs; else the file itself.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "boost/crc.hpp"
#include "google/protobuf/stubs/logging.h"
#include "server/controller.h"
#include "server/ledger_file.h"

namespace trireme {
namespace {

std::string Uint32(size_t value) {
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

std::string File(std::string_view input) {
  if (input.empty() || input[0] % 2 == 0) return std::string(input.substr(!input.empty()));
  std::string file = "TRILEDGR" + Uint32(1);
  for (input.remove_prefix(1); input.size() > 2;) {
    const size_t n = static_cast<uint8_t>(input[0]) | static_cast<uint8_t>(input[1]) << 8;
    const std::string_view payload = input.substr(2, n);
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
    crc.process_bytes(payload.data(), payload.size());
    file += Uint32(payload.size()) + Uint32(crc.checksum());
    file += payload;
    input.remove_prefix(2 + payload.size());
  }
  return file;
}

// A controller's ledger in a directory of this process.
class Directory {
 public:
  Directory() {
    std::string name = (std::filesystem::temp_directory_path() / "ledger_fuzz.XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Directory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// What ControllerLoop::Restore does, and the requests' lives after it. How many records were
// written.
size_t Run(const std::vector<LedgerRecord>& records, LedgerStore& store) {
  uint64_t random = 0;
  Controller core({.records = true}, [&] { return ++random; });
  Time now = std::chrono::steady_clock::now();
  Actions out;
  for (const LedgerRecord& record : records) {
    if (const auto* r = std::get_if<ModelRecord>(&record)) core.Know(r->model);
  }
  uint64_t key = 0;
  std::vector<RestoredRequest> requests = Restore(records);
  for (const RestoredRequest& request : requests) core.Restore(now, ++key, request, out);
  const std::vector<LedgerRecord> known = core.Records();
  CHECK(store.Rewrite(known).ok());
  size_t n_written = known.size();

  const auto append = [&] {
    std::vector<LedgerRecord> written;
    for (Action& action : out) {
      if (auto* a = std::get_if<AppendRecord>(&action)) written.push_back(std::move(a->record));
    }
    store.Append(written);
    n_written += written.size();
    out.clear();
  };
  append();
  uint64_t link = 0;
  for (const LedgerRecord& record : records) {
    const auto* r = std::get_if<ModelRecord>(&record);
    if (r == nullptr) continue;
    ReplicaInfo info{
        .model = r->model->name, .fingerprint = "f", .vocab_size = r->model->vocab_size};
    info.context_length = r->model->context_length;
    info.max_rows = 8;
    ++link;
    core.ReplicaUp(now, link, /*instance=*/link, info, r->model, out);
  }
  for (const RestoredRequest& request : requests) {  // its client comes back for all of it
    const auto model =
        std::find_if(records.begin(), records.end(), [&](const LedgerRecord& record) {
          const auto* r = std::get_if<ModelRecord>(&record);
          return r != nullptr && r->model->name == request.request.model;
        });
    if (model == records.end() || request.request.request_id.empty()) continue;
    GenerateRequest again{.tenant = request.request.tenant};
    again.request_id = request.request.request_id;
    again.digest = request.request.digest;
    again.ids = request.request.sequence.prompt_ids;
    core.Generate(now, ++key, now, std::get<ModelRecord>(*model).model, std::move(again), out);
  }
  append();
  for (const auto step : {std::chrono::seconds(1), std::chrono::seconds(3600)}) {
    core.Tick(now += step, out);
    append();
  }
  return n_written;
}

void Open(const std::string& file) {
  static const Directory directory;
  CHECK(WriteFile(directory.path() + "/ledger", file).ok());
  ModelRegistry models;
  auto store = LedgerFile::Open(directory.path(), models, {.reserve_bytes = 0});
  if (!store.ok()) return;
  const size_t n_written = Run((*store)->TakeRecords(), **store);
  store->reset();
  auto next = LedgerFile::Open(directory.path(), models, {.reserve_bytes = 0});
  CHECK(next.ok()) << Message(next.status());
  CHECK_EQ((*next)->TakeRecords().size(), n_written);
}

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  [[maybe_unused]] static const bool quiet = [] {
    google::protobuf::SetLogHandler(nullptr);  // it tells of what is no UTF-8
    trireme::InitLog({.role = "fuzz"}, {.level = "off"});
    return true;
  }();
  trireme::Open(trireme::File({reinterpret_cast<const char*>(data), size}));
  return 0;
}
