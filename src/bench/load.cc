#include "bench/load.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

using Json = nlohmann::json;

absl::StatusOr<TraceEntry> ParseEntry(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return InvalidArgument("expected a JSON object");
  const auto number = [&](const char* field) -> std::optional<double> {
    auto it = json.find(field);
    if (it == json.end() || !it->is_number()) return std::nullopt;
    return it->get<double>();
  };
  const auto tokens = [&](const char* field) -> absl::StatusOr<int32_t> {
    const double value = number(field).value_or(0);
    if (value >= 1 && value <= INT32_MAX && value == std::floor(value)) {
      return static_cast<int32_t>(value);
    }
    return InvalidArgument(field, ": expected a whole number, at least 1");
  };
  TraceEntry entry;
  ASSIGN_OR_RETURN(entry.output_tokens, tokens("output_length"));
  if (json.contains("prompt")) {
    if (!json["prompt"].is_string()) return InvalidArgument("prompt: expected a string");
    entry.text = json["prompt"].get<std::string>();
  } else {
    ASSIGN_OR_RETURN(entry.prompt_tokens, tokens("input_length"));
  }
  if (const auto ms = number("timestamp")) entry.at_s = 1e-3 * *ms;
  if (auto it = json.find("hash_ids"); it != json.end()) {
    if (!it->is_array() || !std::ranges::all_of(*it, &Json::is_number_integer)) {
      return InvalidArgument("hash_ids: expected whole numbers");
    }
    entry.blocks = it->get<std::vector<int64_t>>();
  }
  return entry;
}

}  // namespace

absl::StatusOr<LengthRange> ParseLengths(const std::string& text) {
  const size_t dots = text.find("..");
  LengthRange range;
  const bool numbers = ParseNumber(std::string_view(text).substr(0, dots), &range.least) &&
                       (dots == std::string::npos ||
                        ParseNumber(std::string_view(text).substr(dots + 2), &range.most));
  if (dots == std::string::npos) range.most = range.least;
  if (numbers && range.least >= 1 && range.least <= range.most) return range;
  return InvalidArgument("expected tokens such as 128 or 64..256, not ",
                         text.empty() ? "an empty text" : text);
}

absl::StatusOr<std::vector<TraceEntry>> ParseTrace(const std::string& jsonl) {
  std::vector<TraceEntry> entries;
  size_t n_lines = 0;
  for (const std::string& line : SplitString(jsonl, '\n')) {
    ++n_lines;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto entry = ParseEntry(line);
    if (!entry.ok()) return Annotate(entry.status(), StrCat("line ", n_lines));
    if (!entries.empty() && entry->at_s.has_value() != entries.front().at_s.has_value()) {
      return InvalidArgument("line ", n_lines, ": expected a timestamp in each line or in none");
    }
    entries.push_back(*std::move(entry));
  }
  if (entries.empty()) return InvalidArgument("expected a line of JSON for each request");
  std::ranges::stable_sort(entries, {}, &TraceEntry::at_s);
  return entries;
}

Load::Load(LoadOptions options, std::vector<int32_t> words)
    : options_(std::move(options)), words_(std::move(words)), random_(options_.seed) {
  CHECK(!words_.empty());
  const double longest = options_.shared_prefix * options_.prompt_tokens.most;
  Append(static_cast<size_t>(longest), random_, shared_);
}

LoadRequest Load::Next() {
  LoadRequest request;
  if (options_.trace.empty()) {
    request.ids = DrawPrompt();
    request.output_tokens = Draw(options_.output_tokens);
  } else {
    const TraceEntry& entry = options_.trace[next_entry_];
    next_entry_ = (next_entry_ + 1) % options_.trace.size();
    request.text = entry.text;
    if (!request.text.has_value()) request.ids = TracePrompt(entry);
    request.output_tokens = entry.output_tokens;
  }
  request.seed = random_();
  return request;
}

void Load::Rewind() {
  next_entry_ = 0;
  ++n_rewinds_;
}

double Load::NextInterval(double rate) {
  const double u = std::generate_canonical<double, 53>(random_);  // [0, 1)
  return -std::log1p(-u) / rate;
}

int32_t Load::Draw(LengthRange range) {
  return std::uniform_int_distribution<int32_t>(range.least, range.most)(random_);
}

void Load::Append(size_t n, std::mt19937_64& random, std::vector<int32_t>& ids) const {
  for (size_t i = 0; i < n; ++i) ids.push_back(words_[random() % words_.size()]);
}

std::vector<int32_t> Load::DrawPrompt() {
  const auto n = static_cast<size_t>(Draw(options_.prompt_tokens));
  const auto n_shared = static_cast<size_t>(options_.shared_prefix * static_cast<double>(n));
  std::vector<int32_t> ids(shared_.begin(), shared_.begin() + static_cast<int64_t>(n_shared));
  Append(n - n_shared, random_, ids);
  return ids;
}

std::vector<int32_t> Load::TracePrompt(const TraceEntry& entry) {
  const auto n = static_cast<size_t>(entry.prompt_tokens);
  std::vector<int32_t> ids;
  for (int64_t name : entry.blocks) {
    std::seed_seq seed{options_.seed, n_rewinds_, static_cast<uint64_t>(name)};
    std::mt19937_64 of_block(seed);
    Append(std::min<size_t>(kTraceBlockTokens, n - ids.size()), of_block, ids);
  }
  Append(n - ids.size(), random_, ids);
  return ids;
}

}  // namespace trireme
