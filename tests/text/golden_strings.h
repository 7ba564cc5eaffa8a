// The strings, ids and tokens of tests/golden/make_tokenizers.py, drawn as it draws them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

inline constexpr int kGoldenStrings = 12000;
inline constexpr int kGoldenRandomIds = 2000;
inline constexpr int kGoldenComponentStrings = 600;

// tests/golden/tokenizers/<name>; must be there.
std::string ReadGoldenFile(const std::string& name);
std::vector<uint32_t> ReadGolden(const std::string& name);  // <name>.golden

std::string DrawString(int index);
std::vector<int32_t> DrawIds(int index, int32_t vocab_size, std::span<const int32_t> added_ids);
std::vector<std::string> DrawTokens(int index);

uint32_t CrcOfFile(std::string_view bytes);
uint32_t CrcOfTexts(const std::vector<std::string>& texts);
uint32_t CrcOfIds(std::span<const int32_t> ids);

// For messages: ASCII, everything else as \u{…}; cut after some hundred characters.
std::string Escaped(std::string_view text);

}  // namespace trireme
