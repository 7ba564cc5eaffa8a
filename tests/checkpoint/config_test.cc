// config.json: what is read, which defaults, and how each bad or unsupported key is refused.
#include "runtime/config.h"

#include <sys/stat.h>

#include "gtest/gtest.h"
#include "runtime/json.h"
#include "tests/checkpoint/test_files.h"

namespace trireme {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr Architecture kArchitectures[] = {
    {"LlamaForCausalLM", "llama"},
    {"MistralForCausalLM", "mistral", R"({"num_key_value_heads": 4, "sliding_window": 4096})"}};

json Minimal() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"intermediate_size", 172},
          {"num_hidden_layers", 5},
          {"num_attention_heads", 8},
          {"vocab_size", 512}};
}

// Minimal() with some keys replaced; the value "remove" takes a key away.
json With(const json& changes) {
  json config = Minimal();
  for (const auto& [key, value] : changes.items()) {
    config[key] = value;
    if (value == "remove") config.erase(key);
  }
  return config;
}

ModelConfig Parse(const json& changes) {
  const auto config = ParseModelConfig(With(changes).dump(), "", kArchitectures);
  CHECK(config.ok()) << Message(config.status());
  return *config;
}

json Mistral(json changes) {
  changes["architectures"] = {"MistralForCausalLM"};
  return changes;
}

// The error, without its prefix "config.json: ".
absl::Status Error(const json& changes) {
  const absl::Status status = ParseModelConfig(With(changes).dump(), "", kArchitectures).status();
  if (status.ok()) return status;
  CHECK(Message(status).starts_with("config.json: ")) << Message(status);
  return absl::Status(status.code(), Message(status).substr(13));
}

TEST(ModelConfig, TakesTheDefaultsOfLlamaConfig) {
  const ModelConfig c = Parse({});
  EXPECT_EQ(c.architecture, "LlamaForCausalLM");
  EXPECT_EQ(c.hidden, 64);
  EXPECT_EQ(c.n_layers, 5);
  EXPECT_EQ(c.n_heads, 8);
  EXPECT_EQ(c.n_kv_heads, 8);
  EXPECT_EQ(c.group(), 1);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.ffn, 172);
  EXPECT_EQ(c.vocab, 512);
  EXPECT_EQ(c.max_positions, 2048);
  EXPECT_EQ(c.context(), 2048);
  EXPECT_EQ(c.rms_norm_eps, 1e-6f);
  EXPECT_FALSE(c.tied_embeddings);
  EXPECT_FALSE(c.attention_bias);
  EXPECT_FALSE(c.mlp_bias);
  EXPECT_EQ(c.activation, Activation::kSilu);
  EXPECT_EQ(c.rope.type, RopeConfig::Type::kDefault);
  EXPECT_EQ(c.rope.theta, 10000);
  EXPECT_EQ(c.dtype, DType::kF32);
  EXPECT_THAT(c.eos_ids, IsEmpty());
}

TEST(ModelConfig, ReadsEveryKey) {
  const ModelConfig c = Parse({{"num_key_value_heads", 2},
                               {"head_dim", 32},
                               {"max_position_embeddings", 300},
                               {"rms_norm_eps", 1e-5},
                               {"tie_word_embeddings", true},
                               {"attention_bias", true},
                               {"mlp_bias", true},
                               {"hidden_act", "swish"},
                               {"rope_theta", 500000},
                               {"torch_dtype", "bfloat16"},
                               {"eos_token_id", 2}});
  EXPECT_EQ(c.n_kv_heads, 2);
  EXPECT_EQ(c.group(), 4);
  EXPECT_EQ(c.head_dim, 32);
  EXPECT_EQ(c.max_positions, 300);
  EXPECT_EQ(c.rms_norm_eps, 1e-5f);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_TRUE(c.attention_bias);
  EXPECT_TRUE(c.mlp_bias);
  EXPECT_EQ(c.rope.theta, 500000);
  EXPECT_EQ(c.dtype, DType::kBF16);
  EXPECT_THAT(c.eos_ids, ElementsAre(2));
}

TEST(ModelConfig, NullIsAbsent) {
  const ModelConfig c = Parse({{"num_key_value_heads", nullptr},
                               {"head_dim", nullptr},
                               {"rope_scaling", nullptr},
                               {"torch_dtype", nullptr},
                               {"eos_token_id", nullptr},
                               {"sliding_window", nullptr},
                               {"quantization_config", nullptr}});
  EXPECT_EQ(c.n_kv_heads, 8);
  EXPECT_EQ(c.head_dim, 8);
}

TEST(ModelConfig, ReadsDtypes) {
  EXPECT_EQ(Parse({{"torch_dtype", "float16"}}).dtype, DType::kF16);
  EXPECT_EQ(Parse({{"dtype", "bfloat16"}}).dtype, DType::kBF16);
  EXPECT_EQ(Parse({{"torch_dtype", "torch.bfloat16"}}).dtype, DType::kBF16);
  EXPECT_EQ(Parse({{"dtype", "float32"}}).dtype, DType::kF32);
  EXPECT_THAT(Error({{"torch_dtype", "float64"}}),
              IsError(kUnimplemented,
                      "torch_dtype \"float64\" is not supported; supported: "
                      "float32, float16, bfloat16"));
  EXPECT_THAT(Error({{"dtype", 16}}), IsError(kInvalid, "dtype: expected a string, found 16"));
}

TEST(ModelConfig, ReadsEosIds) {
  EXPECT_THAT(Parse({{"eos_token_id", {5, 2, 5}}}).eos_ids, ElementsAre(2, 5));
  EXPECT_THAT(Parse({{"eos_token_id", json::array()}}).eos_ids, IsEmpty());
  const auto with = [](const std::string& generation) {
    return ParseModelConfig(With({{"eos_token_id", 2}}).dump(), generation, kArchitectures);
  };
  EXPECT_THAT(with("")->eos_ids, ElementsAre(2));
  EXPECT_THAT(with("{}")->eos_ids, ElementsAre(2));
  EXPECT_THAT(with(R"({"eos_token_id":[7,8]})")->eos_ids, ElementsAre(7, 8));
  EXPECT_THAT(with(R"({"eos_token_id":512})").status(),
              IsError(kInvalid,
                      "generation_config.json: eos_token_id: expected ids from 0 to 511, "
                      "found 512"));
  EXPECT_THAT(with("{,").status(),
              IsError(kInvalid, "generation_config.json: not valid JSON at byte 2"));
  EXPECT_THAT(Error({{"eos_token_id", -1}}),
              IsError(kInvalid, "eos_token_id: expected ids from 0 to 511, found -1"));
  EXPECT_THAT(Error({{"eos_token_id", {1, "a"}}}),
              IsError(kInvalid, "eos_token_id: expected ids from 0 to 511, found \"a\""));
}

TEST(ModelConfig, RefusesWhatIsNotAnObject) {
  const auto parse = [](const std::string& text) {
    return ParseModelConfig(text, "", kArchitectures).status();
  };
  EXPECT_THAT(parse(""), IsError(kInvalid, "config.json: not valid JSON at byte 1"));
  EXPECT_THAT(parse("{\"a\":}"), IsError(kInvalid, "config.json: not valid JSON at byte 6"));
  EXPECT_THAT(parse("{\"a\":1e999}"),
              IsError(kInvalid, "config.json: not valid JSON: a number is out of range"));
  EXPECT_THAT(parse("[]"), IsError(kInvalid, "config.json: expected a JSON object, found a list"));
  EXPECT_THAT(parse(R"({"a":{"b":1,"b":2}})"),
              IsError(kInvalid, "config.json: the key \"b\" is there twice in one object"));
}

TEST(ModelConfig, RefusesOtherArchitectures) {
  EXPECT_THAT(Error({{"architectures", {"GPT2LMHeadModel"}}}),
              IsError(kUnimplemented,
                      "architecture \"GPT2LMHeadModel\" is not supported; "
                      "supported: LlamaForCausalLM, MistralForCausalLM"));
  EXPECT_THAT(Error({{"architectures", "remove"}}),
              IsError(kInvalid, "architectures is missing, expected [\"LlamaForCausalLM\"]"));
  EXPECT_THAT(Error({{"architectures", {"a", "b"}}}),
              IsError(kInvalid, "architectures: expected a list of one name, found a list"));
  EXPECT_THAT(Error({{"architectures", "LlamaForCausalLM"}}),
              IsError(kInvalid,
                      "architectures: expected a list of one name, found "
                      "\"LlamaForCausalLM\""));
  EXPECT_THAT(Error({{"model_type", "mistral"}}),
              IsError(kInvalid,
                      "model_type: expected \"llama\" with LlamaForCausalLM, found "
                      "\"mistral\""));
  EXPECT_EQ(Parse({{"model_type", "llama"}}).architecture, "LlamaForCausalLM");
}

TEST(ModelConfig, NamesTheKeyThatIsMissing) {
  for (const std::string key : {"hidden_size", "num_hidden_layers", "num_attention_heads",
                                "intermediate_size", "vocab_size"}) {
    EXPECT_THAT(Error({{key, "remove"}}),
                IsError(kInvalid, StartsWith(key + " is missing, expected an integer from 1 to ")));
    EXPECT_THAT(Error({{key, nullptr}}), IsError(kInvalid, StartsWith(key + " is missing")));
  }
}

TEST(ModelConfig, RefusesNumbersOutOfBounds) {
  const json huge = {-1, 0, int64_t{1} << 40, UINT64_MAX, 2.5, 1e30, "8", true, json::array()};
  for (const std::string key :
       {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "intermediate_size", "vocab_size", "max_position_embeddings"}) {
    for (const json& value : huge) {
      EXPECT_THAT(Error({{key, value}}),
                  IsError(kInvalid, StartsWith(key + ": expected an integer from 1 to ")))
          << value;
    }
  }
  EXPECT_THAT(Error({{"hidden_size", 2.5}}),
              IsError(kInvalid, "hidden_size: expected an integer from 1 to 16777216, found 2.5"));
  for (const json& value : {json(-1e-6), json(2), json("1e-5"), json(true)}) {
    EXPECT_THAT(
        Error({{"rms_norm_eps", value}}),
        IsError(kInvalid, "rms_norm_eps: expected a number from 0 to 1, found " + value.dump()));
  }
  EXPECT_THAT(Error({{"rope_theta", 0}}),
              IsError(kInvalid, "rope_theta: expected a number from 1.001 to 1e+15, found 0"));
  EXPECT_THAT(Error({{"tie_word_embeddings", 1}}),
              IsError(kInvalid, "tie_word_embeddings: expected true or false, found 1"));
}

TEST(ModelConfig, RefusesImpossibleHeads) {
  EXPECT_THAT(Error({{"num_key_value_heads", 3}}),
              IsError(kInvalid,
                      "num_attention_heads 8 must be a multiple of num_key_value_heads "
                      "3"));
  EXPECT_THAT(Error({{"hidden_size", 60}}),
              IsError(kInvalid,
                      "hidden_size 60 must be a multiple of num_attention_heads 8 unless "
                      "head_dim is given"));
  EXPECT_EQ(Parse({{"hidden_size", 60}, {"head_dim", 8}}).head_dim, 8);
  EXPECT_THAT(Error({{"head_dim", 7}}), IsError(kInvalid, "head_dim 7 must be even"));
  EXPECT_THAT(Error({{"num_attention_heads", 65536}, {"head_dim", 65536}}),
              IsError(kInvalid,
                      "num_attention_heads 65536 times head_dim 65536 must be at most "
                      "16777216"));
  EXPECT_THAT(Error({{"hidden_size", 4}}),
              IsError(kInvalid,
                      "hidden_size 4 must be a multiple of num_attention_heads 8 unless "
                      "head_dim is given"));
}

TEST(ModelConfig, RefusesWhatWouldChangeTheResult) {
  EXPECT_THAT(Error({{"hidden_act", "gelu"}}),
              IsError(kUnimplemented, "hidden_act \"gelu\" is not supported; supported: silu"));
  EXPECT_THAT(Error({{"quantization_config", {{"quant_method", "gptq"}}}}),
              IsError(kUnimplemented, "quantization_config an object is not supported"));
  EXPECT_THAT(
      Error({{"sliding_window", 4096}}),
      IsError(kUnimplemented, "sliding_window 4096 is not supported for this architecture"));
  EXPECT_THAT(Error({{"partial_rotary_factor", 0.5}}),
              IsError(kUnimplemented, "partial_rotary_factor 0.5 is not supported"));
  EXPECT_THAT(Error({{"logit_scale", 0.25}}),
              IsError(kUnimplemented, "logit_scale 0.25 is not supported"));
  EXPECT_THAT(Error({{"auto_map", {{"AutoModelForCausalLM", "modeling.X"}}}}),
              IsError(kUnimplemented, "auto_map an object is not supported"));
  EXPECT_THAT(Error({{"num_local_experts", 8}}),
              IsError(kUnimplemented, "num_local_experts 8 is not supported"));
  EXPECT_THAT(Error({{"layer_types", {"full_attention", "sliding_attention"}}}),
              IsError(kUnimplemented, "layer_types: \"sliding_attention\" is not supported"));
}

TEST(ModelConfig, TakesWhatChangesNothing) {
  const json harmless = {{"sliding_window", 4096},
                         {"use_sliding_window", false},
                         {"max_window_layers", 28},
                         {"partial_rotary_factor", 1.0},
                         {"logit_scale", 1},
                         {"auto_map", json::object()},
                         {"num_local_experts", 0},
                         {"layer_types", {"full_attention", "full_attention"}},
                         {"qk_norm", false},
                         {"pretraining_tp", 2},
                         {"attention_dropout", 0.1},
                         {"initializer_range", 0.02},
                         {"use_cache", true},
                         {"transformers_version", "4.40.0"},
                         {"some_tool", {{"deep", {1, 2}}}}};
  EXPECT_EQ(Parse(harmless).hidden, 64);
  EXPECT_EQ(Parse(harmless).window, kNoWindow);
}

// ---- sliding windows ----

TEST(SlidingWindow, IsReadWhereTheArchitectureHasOne) {
  EXPECT_EQ(Parse({}).window, kNoWindow);
  EXPECT_EQ(Parse(Mistral({{"sliding_window", 1}})).window, 1);
  EXPECT_EQ(Parse(Mistral({{"sliding_window", nullptr}})).window, kNoWindow);
  const ModelConfig c = Parse(Mistral({{"model_type", "mistral"}, {"head_dim", 32}}));
  EXPECT_EQ(c.architecture, "MistralForCausalLM");
  EXPECT_EQ(c.head_dim, 32);
  EXPECT_EQ(c.window, 4096) << "absent is not null: Hugging Face's default";
  EXPECT_EQ(c.n_kv_heads, 4);
  EXPECT_EQ(Parse(Mistral({{"num_key_value_heads", nullptr}})).n_kv_heads, 8);
  for (const json& value : {json(0), json(-1), json(false), json("4096"), json(int64_t{1} << 31)}) {
    EXPECT_THAT(
        Error(Mistral({{"sliding_window", value}})),
        IsError(kInvalid,
                "sliding_window: expected an integer from 1 to 1073741824, found " + value.dump()));
  }
}

TEST(SlidingWindow, IsAPartOfTheArithmetic) {
  const auto hash = [](const json& window) {
    return ArithmeticHash(Parse(Mistral({{"sliding_window", window}})));
  };
  EXPECT_EQ(hash(40), hash(40));
  EXPECT_NE(hash(40), hash(41));
  EXPECT_NE(hash(40), hash(nullptr));
}

TEST(SlidingWindow, IsOfAllLayersOrOfNone) {
  const auto with = [](const json& window, const json& changes) {
    json config = Mistral(changes);
    config["sliding_window"] = window;
    return config;
  };
  for (const json& nothing :
       {json{{"use_sliding_window", true}}, json{{"max_window_layers", 0}},
        json{{"layer_types", {"sliding_attention", "sliding_attention"}}}, json::object()}) {
    EXPECT_EQ(Parse(with(8, nothing)).window, 8) << nothing;
  }
  for (const json& nothing :
       {json{{"use_sliding_window", true}}, json{{"use_sliding_window", false}},
        json{{"max_window_layers", 3}}, json{{"layer_types", {"full_attention"}}}}) {
    EXPECT_EQ(Parse(with(nullptr, nothing)).window, kNoWindow) << nothing;
  }
  const std::string beside = " is not supported beside sliding_window 8, which all layers have";
  EXPECT_THAT(Error(with(8, {{"use_sliding_window", false}})),
              IsError(kUnimplemented, "use_sliding_window false" + beside));
  EXPECT_THAT(Error(with(8, {{"max_window_layers", 3}})),
              IsError(kUnimplemented, "max_window_layers 3" + beside));
  EXPECT_THAT(Error(with(8, {{"layer_types", {"sliding_attention", "full_attention"}}})),
              IsError(kUnimplemented, "layer_types: \"full_attention\"" + beside));
  EXPECT_THAT(Error(with(nullptr, {{"layer_types", {"sliding_attention"}}})),
              IsError(kUnimplemented, "layer_types: \"sliding_attention\" is not supported"));
}

// ---- rotary positions ----

TEST(RopeParameters, ReadsEachScaling) {
  const RopeConfig linear = Parse({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}).rope;
  EXPECT_EQ(linear.type, RopeConfig::Type::kLinear);
  EXPECT_EQ(linear.factor, 2);

  const ModelConfig dynamic = Parse(
      {{"max_position_embeddings", 100},
       {"rope_scaling",
        {{"rope_type", "dynamic"}, {"factor", 2.5}, {"original_max_position_embeddings", 50}}}});
  EXPECT_EQ(dynamic.rope.type, RopeConfig::Type::kDynamic);
  EXPECT_EQ(dynamic.rope.factor, 2.5);
  EXPECT_EQ(dynamic.rope.original_max_positions, 100);
  EXPECT_EQ(dynamic.context(), 250);

  const RopeConfig llama3 = Parse({{"rope_scaling",
                                    {{"rope_type", "llama3"},
                                     {"type", "llama3"},
                                     {"factor", 8},
                                     {"low_freq_factor", 1.5},
                                     {"high_freq_factor", 3},
                                     {"original_max_position_embeddings", 8192}}}})
                                .rope;
  EXPECT_EQ(llama3.type, RopeConfig::Type::kLlama3);
  EXPECT_EQ(llama3.factor, 8);
  EXPECT_EQ(llama3.low_freq_factor, 1.5);
  EXPECT_EQ(llama3.high_freq_factor, 3);
  EXPECT_EQ(llama3.original_max_positions, 8192);

  const RopeConfig yarn = Parse({{"rope_scaling",
                                  {{"rope_type", "yarn"},
                                   {"factor", 4},
                                   {"attention_factor", 1.2},
                                   {"beta_fast", 16},
                                   {"beta_slow", 2},
                                   {"mscale", 0.5},
                                   {"mscale_all_dim", 0.7},
                                   {"truncate", false}}}})
                              .rope;
  EXPECT_EQ(yarn.type, RopeConfig::Type::kYarn);
  EXPECT_EQ(yarn.original_max_positions, 2048);
  EXPECT_EQ(yarn.attention_factor, 1.2);
  EXPECT_EQ(yarn.beta_fast, 16);
  EXPECT_EQ(yarn.beta_slow, 2);
  EXPECT_EQ(yarn.mscale, 0.5);
  EXPECT_EQ(yarn.mscale_all_dim, 0.7);
  EXPECT_FALSE(yarn.truncate);
}

TEST(RopeParameters, TransformersFiveWritesThemInOneObject) {
  const RopeConfig inside =
      Parse({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}}).rope;
  EXPECT_EQ(inside.type, RopeConfig::Type::kDefault);
  EXPECT_EQ(inside.theta, 5e5);
  const RopeConfig both =
      Parse({{"rope_parameters", {{"rope_type", "linear"}, {"rope_theta", 5e5}, {"factor", 3}}},
             {"rope_theta", 1e4}})
          .rope;
  EXPECT_EQ(both.type, RopeConfig::Type::kLinear);
  EXPECT_EQ(both.theta, 5e5);
  EXPECT_EQ(both.factor, 3);
  EXPECT_EQ(
      Parse({{"rope_parameters", {{"rope_type", "default"}}}, {"rope_theta", 7e4}}).rope.theta,
      7e4);
}

TEST(RopeParameters, FollowTransformersInTheCorners) {
  // A key of the model comes before one inside; a factor of null is the ratio of the contexts.
  const RopeConfig yarn = Parse({{"max_position_embeddings", 8192},
                                 {"original_max_position_embeddings", 2048},
                                 {"rope_scaling",
                                  {{"rope_type", "yarn"},
                                   {"factor", nullptr},
                                   {"original_max_position_embeddings", 1024},
                                   {"beta_fast", 0}}}})
                              .rope;
  EXPECT_EQ(yarn.original_max_positions, 2048);
  EXPECT_EQ(yarn.factor, 4);
  EXPECT_EQ(yarn.beta_fast, 32);
}

TEST(RopeParameters, RefusesWhatIsWrong) {
  const auto error = [](const json& scaling) { return Error({{"rope_scaling", scaling}}); };
  EXPECT_THAT(error(3), IsError(kInvalid, "rope_scaling: expected an object or null, found 3"));
  EXPECT_THAT(error({{"type", "longrope"}}),
              IsError(kUnimplemented,
                      "rope_scaling.rope_type \"longrope\" is not supported; "
                      "supported: default, linear, dynamic, llama3, yarn"));
  EXPECT_THAT(error({{"type", "linear"}, {"rope_type", "yarn"}}),
              IsError(kInvalid,
                      "rope_scaling.rope_type \"yarn\" and rope_scaling.type \"linear\" "
                      "differ"));
  EXPECT_THAT(error({{"type", "linear"}}),
              IsError(kInvalid,
                      "rope_scaling.factor is missing, expected a number from 1 to "
                      "1e+06"));
  EXPECT_THAT(error({{"type", "dynamic"}, {"factor", 0.5}}),
              IsError(kInvalid,
                      "rope_scaling.factor: expected a number from 1 to 1e+06, found "
                      "0.5"));
  EXPECT_THAT(error({{"type", "yarn"}, {"factor", "4"}}),
              IsError(kInvalid,
                      "rope_scaling.factor: expected a number from 1 to 1e+06, found "
                      "\"4\""));
  EXPECT_THAT(error({{"type", "llama3"}, {"factor", 8}}),
              IsError(kInvalid, StartsWith("rope_scaling.low_freq_factor is missing")));
  EXPECT_THAT(
      error({{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}),
      IsError(kInvalid, "rope_scaling.high_freq_factor 4 must be above low_freq_factor 4"));
  EXPECT_THAT(error({{"type", "yarn"}, {"factor", 2}, {"beta_slow", 33}}),
              IsError(kInvalid, "rope_scaling.beta_fast 32 must not be below beta_slow 33"));
  EXPECT_THAT(
      error({{"type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", 0}}),
      IsError(kInvalid, StartsWith("rope_scaling.original_max_position_embeddings: expected "
                                   "an integer from 1 to ")));
  EXPECT_THAT(error({{"type", "yarn"}, {"factor", 2}, {"attention_factor", 0}}),
              IsError(kInvalid, StartsWith("rope_scaling.attention_factor: expected a number")));
  EXPECT_THAT(error({{"type", "default"}, {"mrope_section", {16, 24, 24}}}),
              IsError(kUnimplemented, "rope_scaling.\"mrope_section\" is not supported"));
  EXPECT_THAT(error({{"type", "default"}, {"partial_rotary_factor", 0.25}}),
              IsError(kUnimplemented, "rope_scaling.\"partial_rotary_factor\" is not supported"));
  EXPECT_THAT(Error({{"rope_scaling", json::object()}, {"rope_parameters", json::object()}}),
              IsError(kInvalid, "expected rope_parameters or rope_scaling, found both"));
  EXPECT_THAT(Error({{"head_dim", 2}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}}),
              IsError(kInvalid, "rope_scaling.rope_type dynamic needs a head_dim above 2"));
}

// ---- files and names ----

TEST(ReadModelConfig, ReadsBothFiles) {
  const TempDir dir;
  dir.Write("config.json", With({{"eos_token_id", 2}}).dump());
  EXPECT_THAT(ReadModelConfig(dir.path(), kArchitectures)->eos_ids, ElementsAre(2));
  dir.Write("generation_config.json", R"({"eos_token_id":[3,4]})");
  EXPECT_THAT(ReadModelConfig(dir.path(), kArchitectures)->eos_ids, ElementsAre(3, 4));
}

TEST(ReadModelConfig, NamesTheFileThatIsWrong) {
  const TempDir dir;
  const std::string path = dir / "config.json";
  EXPECT_THAT(ReadModelConfig(dir.path(), kArchitectures).status(),
              IsError(kNotFound, path + ": cannot open: No such file or directory"));
  dir.Write("config.json", "{}");
  EXPECT_THAT(ReadModelConfig(dir.path(), kArchitectures).status(),
              IsError(kInvalid, path + ": architectures is missing, expected "
                                       "[\"LlamaForCausalLM\"]"));
  dir.Write("config.json", Minimal().dump());
  dir.Write("generation_config.json", "");
  EXPECT_TRUE(ReadModelConfig(dir.path(), kArchitectures).ok());
  dir.Write("generation_config.json", "[]");
  EXPECT_THAT(ReadModelConfig(dir.path(), kArchitectures).status(),
              IsError(kInvalid,
                      (dir / "generation_config.json") + ": expected a JSON object, found a list"));
}

TEST(NamedShape, KnowsTheShapesOfTheBenches) {
  const ModelConfig tiny = NamedShape("tinyllama-1.1b").value();
  EXPECT_EQ(tiny.hidden, 2048);
  EXPECT_EQ(tiny.n_layers, 22);
  EXPECT_EQ(tiny.n_heads, 32);
  EXPECT_EQ(tiny.n_kv_heads, 4);
  EXPECT_EQ(tiny.ffn, 5632);
  EXPECT_EQ(tiny.vocab, 32000);
  EXPECT_EQ(tiny.dtype, DType::kBF16);
  EXPECT_THAT(NamedShape("llama9").status(),
              IsError(kNotFound, StartsWith("no shape llama9; the shapes are tinyllama-1.1b, ")));
}

// Parameters of the originals, without biases.
TEST(NamedShape, CountsTheParametersOfTheOriginals) {
  const std::vector<std::pair<std::string, int64_t>> counts = {
      {"tinyllama-1.1b", 1'100'048'384},
      {"stories15m", 15'191'712},
      {"llama2-7b", 6'738'415'616},
      {"llama3-8b", 8'030'261'248},
      {"llama3-70b", 70'553'706'496},
      {"llama3.2-1b", 1'235'814'400},
      {"mistral-7b", 7'241'732'096},
      {"qwen2-0.5b", 494'032'768 - 24 * (14 + 2 * 2) * 64},
      {"tiny", 158'016}};
  EXPECT_EQ(ShapeNames().size(), counts.size());
  for (const auto& [name, n] : counts) {
    const ModelConfig c = NamedShape(name).value();
    const int64_t attention = 2 * c.hidden * (c.n_heads + c.n_kv_heads) * c.head_dim;
    const int64_t layer = attention + 3 * c.hidden * c.ffn + 2 * c.hidden;
    const int64_t embeddings = (c.tied_embeddings ? 1 : 2) * c.vocab * c.hidden;
    EXPECT_EQ(embeddings + c.n_layers * layer + c.hidden, n) << name;
    EXPECT_EQ(c.n_heads % c.n_kv_heads, 0) << name;
  }
}

}  // namespace
}  // namespace trireme
