#include "server/keys.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "openssl/crypto.h"
#include "openssl/evp.h"
#include "openssl/rand.h"

namespace trireme {
namespace {

std::string Hex(std::span<const unsigned char> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

constexpr size_t kHashDigits = 64;

bool IsHash(std::string_view text) {
  return text.size() == kHashDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::vector<std::string> Words(const std::string& line) {
  std::istringstream in(line.substr(0, line.find('#')));
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

bool ReadEntry(const std::vector<std::string>& words, std::string* hash, Caller* caller) {
  if (words.size() < 2 || !IsHash(words[1])) return false;
  caller->tenant = words[0];
  *hash = words[1];
  for (size_t i = 2; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const auto value = [&](std::string_view name) { return word.substr(name.size()); };
    if (word == "admin") {
      caller->admin = true;
    } else if (word.starts_with("weight=")) {
      if (!ParseNumber(value("weight="), &caller->weight)) return false;
      if (!(caller->weight > 0 && caller->weight <= 1e6)) return false;
    } else if (word.starts_with("max-requests=")) {
      if (!ParseNumber(value("max-requests="), &caller->max_requests)) return false;
    } else {
      return false;
    }
  }
  return true;
}

// RFC 6750, 2.1; the scheme in any case of its letters, spaces behind it (RFC 9110, 11.4). Empty:
// it is none.
std::string_view BearerToken(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer";
  const std::string_view scheme = authorization.substr(0, kScheme.size());
  const bool same = std::ranges::equal(
      scheme, kScheme, {}, [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const size_t key = authorization.find_first_not_of(' ', scheme.size());
  if (!same || key == scheme.size() || key == authorization.npos) return {};
  return authorization.substr(key);
}

}  // namespace

std::string Sha256(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash;
  unsigned size = 0;
  CHECK_EQ(EVP_Digest(bytes.data(), bytes.size(), hash.data(), &size, EVP_sha256(), nullptr), 1);
  return Hex(std::span(hash).first(size));
}

bool SameSecret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string NewKey() {
  std::array<unsigned char, 32> bits;
  CHECK_EQ(RAND_bytes(bits.data(), static_cast<int>(bits.size())), 1);
  return "tk-" + Hex(bits);
}

void Own(const Caller& caller, GenerateRequest& request) {
  request.tenant = caller.tenant;
  request.weight = caller.weight;
  request.max_tenant_requests = caller.max_requests;
}

absl::StatusOr<std::unique_ptr<KeyFile>> KeyFile::Open(const std::string& path) {
  std::unique_ptr<KeyFile> file(new KeyFile(path));
  std::lock_guard lock(file->mutex_);
  std::error_code error;
  file->written_ = std::filesystem::last_write_time(path, error);
  ASSIGN_OR_RETURN(file->entries_, file->Read());
  return file;
}

absl::StatusOr<std::vector<KeyFile::Entry>> KeyFile::Read() const {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path_));
  std::vector<Entry> entries;
  int number = 0;
  for (const std::string& line : SplitString(text, '\n')) {
    ++number;
    const std::vector<std::string> words = Words(line);
    if (words.empty()) continue;
    Entry entry;
    if (!ReadEntry(words, &entry.hash, &entry.caller)) {
      return InvalidArgument(path_, " line ", number,
                             ": expected TENANT SHA256-OF-THE-KEY [admin] [weight=X] "
                             "[max-requests=N], as `trireme key` prints");
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

void KeyFile::ReadAgain() {
  std::error_code error;
  const auto written = std::filesystem::last_write_time(path_, error);
  if (error || written == written_) return;
  written_ = written;
  auto entries = Read();
  if (!entries.ok()) {
    spdlog::error("{}; the keys from before stay", Message(entries.status()));
    return;
  }
  entries_ = *std::move(entries);
  spdlog::info("{}: {} keys", path_, entries_.size());
}

absl::StatusOr<Caller> KeyFile::Check(std::string_view key) {
  const std::string hash = Sha256(key);
  std::lock_guard lock(mutex_);
  ReadAgain();
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {  // all of them, whichever it is
    if (SameSecret(entry.hash, hash)) found = &entry;
  }
  if (found == nullptr) return absl::UnauthenticatedError("the API key is not known here");
  return found->caller;
}

absl::StatusOr<Caller> Doorkeeper::Admit(std::string_view authorization) const {
  if (keys_ == nullptr) return Caller{.tenant = "", .admin = true};
  const std::string_view key = BearerToken(authorization);
  if (key.empty()) {
    return absl::UnauthenticatedError(
        "an API key is needed: send the header `authorization: Bearer KEY`");
  }
  return keys_->Check(key);
}

absl::Status Doorkeeper::AdmitAdmin(std::string_view authorization) const {
  ASSIGN_OR_RETURN(const Caller caller, Admit(authorization));
  if (caller.admin) return absl::OkStatus();
  return absl::PermissionDeniedError("this needs the key of an admin");
}

}  // namespace trireme
