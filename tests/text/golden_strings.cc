#include "golden_strings.h"

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/file.h"
#include "text/utf8.h"

namespace trireme {
namespace {

struct Rng {  // SplitMix64 (Steele et al. 2014)
  uint64_t state;

  uint64_t Next(uint64_t n) {
    state += 0x9E3779B97F4A7C15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return (z ^ (z >> 31)) % n;
  }
};

struct Pool {
  std::string name;
  uint64_t weight;
  std::vector<std::string> items;
};

struct Pools {
  std::vector<Pool> strings;
  uint64_t total = 0;
  std::vector<std::string> tokens;
};

const Pools& GetPools() {
  static const Pools* pools = [] {
    const nlohmann::json json = nlohmann::json::parse(ReadGoldenFile("pools.json"));
    auto* result = new Pools;
    for (const auto& pool : json["strings"]) {
      result->strings.push_back({pool["name"], pool["weight"], pool["items"]});
      result->total += result->strings.back().weight;
    }
    result->tokens = json["tokens"];
    return result;
  }();
  return *pools;
}

std::string Pick(Rng* rng) {
  const Pools& pools = GetPools();
  uint64_t at = rng->Next(pools.total);
  size_t i = 0;
  while (at >= pools.strings[i].weight) at -= pools.strings[i++].weight;
  const Pool& pool = pools.strings[i];
  const std::string& item = pool.items[rng->Next(pool.items.size())];
  if (pool.name != "codepoint") return item;
  const size_t dash = item.find('-');
  const auto first = std::stoul(item.substr(0, dash), nullptr, 16);
  const auto last = std::stoul(item.substr(dash + 1), nullptr, 16);
  std::string character;
  text::AppendUtf8(static_cast<char32_t>(first + rng->Next(last - first + 1)), &character);
  return character;
}

std::string Repeated(const std::string& part, uint64_t times) {
  std::string out;
  for (; times > 0; --times) out += part;
  return out;
}

uint32_t Crc(std::string_view bytes, uint32_t crc = 0) {  // zlib's CRC-32
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t;
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0xEDB88320 : 0);
    }
    return t;
  }();
  crc = ~crc;
  for (char c : bytes) crc = table[(crc ^ static_cast<uint8_t>(c)) & 0xFF] ^ crc >> 8;
  return ~crc;
}

}  // namespace

std::string ReadGoldenFile(const std::string& name) {
  absl::StatusOr<std::string> contents =
      ReadFile(StrCat(TRIREME_SOURCE_DIR, "/tests/golden/tokenizers/", name));
  CHECK(contents.ok()) << Message(contents.status());
  return *std::move(contents);
}

std::vector<uint32_t> ReadGolden(const std::string& name) {
  const std::string bytes = ReadGoldenFile(name + ".golden");
  std::vector<uint32_t> values(bytes.size() / sizeof(uint32_t));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(uint32_t));
  return values;
}

std::string DrawString(int index) {
  Rng rng{0xC0FFEE + index * uint64_t{0x1000003}};
  const uint64_t shape = rng.Next(100);
  uint64_t n = 3;
  if (shape < 60) {
    n = 1 + rng.Next(12);
  } else if (shape < 90) {
    n = rng.Next(40);
  } else if (shape < 99) {
    n = rng.Next(120);
  }
  std::vector<std::string> parts;
  for (uint64_t i = 0; i < n; ++i) {
    std::string part = Pick(&rng);
    if (rng.Next(12) == 0) part = Repeated(part, 1 + rng.Next(9));
    parts.push_back(std::move(part));
  }
  if (shape == 99) {
    const std::string part = Pick(&rng);
    parts.insert(parts.begin() + 1, Repeated(part, 200 + rng.Next(1500)));
  }
  return Join(parts, "");
}

std::vector<int32_t> DrawIds(int index, int32_t vocab_size, std::span<const int32_t> added_ids) {
  Rng rng{0xD1CE + index * uint64_t{0x1000003}};
  std::vector<int32_t> ids(rng.Next(50));
  for (int32_t& id : ids) {
    const uint64_t kind = rng.Next(8);
    if (kind == 0 && !added_ids.empty()) {
      id = added_ids[rng.Next(added_ids.size())];
    } else if (kind < 4) {
      id = static_cast<int32_t>(rng.Next(std::min(vocab_size, 300)));
    } else {
      id = static_cast<int32_t>(rng.Next(vocab_size + 2));
    }
  }
  return ids;
}

std::vector<std::string> DrawTokens(int index) {
  Rng rng{0xFACADE + index * uint64_t{0x1000003}};
  const std::vector<std::string>& pool = GetPools().tokens;
  std::vector<std::string> tokens(rng.Next(14));
  for (std::string& token : tokens) token = pool[rng.Next(pool.size())];
  return tokens;
}

uint32_t CrcOfFile(std::string_view bytes) { return Crc(bytes); }

uint32_t CrcOfTexts(const std::vector<std::string>& texts) {
  uint32_t crc = 0;
  for (const std::string& text : texts) crc = Crc(text + '\xFF', crc);
  return crc;
}

uint32_t CrcOfIds(std::span<const int32_t> ids) {
  return Crc({reinterpret_cast<const char*>(ids.data()), ids.size_bytes()});
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size() && out.size() < 600;) {
    const char32_t c = text::DecodeAt(text, &pos);
    if (c >= ' ' && c <= '~') {
      out += static_cast<char>(c);
    } else {
      char code[16];
      std::snprintf(code, sizeof(code), "\\u{%x}", static_cast<unsigned>(c));
      out += code;
    }
  }
  return out;
}

}  // namespace trireme
