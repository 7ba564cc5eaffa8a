// Rotary frequencies and angles against Hugging Face transformers: tests/golden/make_rope.py.
#include "runtime/rope.h"

#include <cmath>

#include "gtest/gtest.h"
#include "runtime/json.h"
#include "tests/checkpoint/test_files.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr Architecture kArchitectures[] = {{"LlamaForCausalLM", "llama"}};

// Powers in float32 are a few ulps apart between libraries; a position multiplies that.
constexpr double kFrequency = 4e-7;  // relative
constexpr double kAngle = 2e-7;      // absolute, of cos and sin

json Golden() {
  const auto text = ReadFile(TRIREME_SOURCE_DIR "/tests/golden/rope.json");
  CHECK(text.ok()) << Message(text.status());
  return json::parse(*text);
}

ModelConfig Config(const json& config) {
  const auto parsed = ParseModelConfig(config.dump(), "", kArchitectures);
  CHECK(parsed.ok()) << Message(parsed.status());
  return *parsed;
}

TEST(Rope, MatchesTransformers) {
  const json golden = Golden();
  ASSERT_GT(golden.size(), 15);
  for (const json& item : golden) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const Rope rope(Config(item["config"]));
    const auto inverse = item["inv_freq"].get<std::vector<double>>();
    ASSERT_EQ(rope.half_dim(), inverse.size());
    for (size_t i = 0; i < inverse.size(); ++i) {
      EXPECT_NEAR(rope.inverse_frequencies()[i], inverse[i], inverse[i] * kFrequency) << i;
    }
    const double factor = item["attention_scaling"];
    EXPECT_FLOAT_EQ(rope.attention_factor(), factor);

    const auto positions = item["positions"].get<std::vector<int32_t>>();
    std::vector<float> cos(positions.size() * inverse.size());
    std::vector<float> sin(cos.size());
    rope.Fill(positions, cos.data(), sin.data());
    for (size_t t = 0; t < positions.size(); ++t) {
      for (size_t i = 0; i < inverse.size(); ++i) {
        const size_t at = t * inverse.size() + i;
        const double tolerance =
            factor * (kAngle + positions[t] * inverse[i] * (i == 0 ? 1e-7 : kFrequency));
        EXPECT_NEAR(cos[at], item["cos"][t][i].get<double>(), tolerance)
            << "position " << positions[t] << ", frequency " << i;
        EXPECT_NEAR(sin[at], item["sin"][t][i].get<double>(), tolerance)
            << "position " << positions[t] << ", frequency " << i;
      }
    }
  }
}

TEST(Rope, APositionsBitsDoNotDependOnTheOthers) {
  for (const json& item : Golden()) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const Rope rope(Config(item["config"]));
    const auto positions = item["positions"].get<std::vector<int32_t>>();
    const size_t half = static_cast<size_t>(rope.half_dim());
    std::vector<float> cos(positions.size() * half), sin(cos.size()), cos1(half), sin1(half);
    rope.Fill(positions, cos.data(), sin.data());
    for (size_t t = positions.size(); t-- > 0;) {
      rope.Fill(std::span(positions).subspan(t, 1), cos1.data(), sin1.data());
      EXPECT_TRUE(std::equal(cos1.begin(), cos1.end(), cos.begin() + t * half));
      EXPECT_TRUE(std::equal(sin1.begin(), sin1.end(), sin.begin() + t * half));
    }
  }
}

TEST(Rope, DynamicIsPlainUpToTheOriginalContext) {
  ModelConfig config;
  config.head_dim = 16;
  config.max_positions = 100;
  const Rope plain(config);
  config.rope.type = RopeConfig::Type::kDynamic;
  config.rope.factor = 4;
  const Rope dynamic(config);
  const auto cos = [](const Rope& rope, int32_t position) {
    std::vector<float> cos(8), sin(8);
    rope.Fill({&position, 1}, cos.data(), sin.data());
    return cos;
  };
  EXPECT_EQ(cos(dynamic, 0), cos(plain, 0));
  EXPECT_EQ(cos(dynamic, 99), cos(plain, 99));
  EXPECT_NE(cos(dynamic, 100), cos(plain, 100));
}

}  // namespace
}  // namespace trireme
