#include "runtime/config.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "base/file.h"
#include "runtime/json.h"
#include "runtime/stable_hash.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr int64_t kMaxDim = int64_t{1} << 24;  // features of any layer, vocabulary rows
constexpr int64_t kMaxLayers = 10'000;
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxPositions = int64_t{1} << 30;  // positions are int32

// Reads one object's values, and says which key is wrong. An absent key and null are the same.
class Fields {
 public:
  // where: prefix of the keys in messages, for example "rope_scaling."
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  bool Has(const char* key) const { return Find(key) != nullptr; }
  std::string Key(std::string_view key) const { return StrCat(where_, key); }

  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  // Without a default, the key must be there.
  absl::StatusOr<int64_t> Int(const char* key, int64_t min, int64_t max,
                              std::optional<int64_t> absent = std::nullopt) const {
    const json* value = Find(key);
    if (value == nullptr && absent.has_value()) return *absent;
    const std::string expected = StrCat("an integer from ", min, " to ", max);
    if (value == nullptr) return Missing(key, expected);
    // What is beyond int64 turns negative, and `min` never is.
    const bool fits =
        value->is_number_integer() && value->get<int64_t>() >= min && value->get<int64_t>() <= max;
    if (!fits) return Wrong(key, expected, *value);
    return value->get<int64_t>();
  }

  absl::StatusOr<double> Number(const char* key, double min, double max,
                                std::optional<double> absent = std::nullopt) const {
    const json* value = Find(key);
    if (value == nullptr && absent.has_value()) return *absent;
    const std::string expected = StrCat("a number from ", min, " to ", max);
    if (value == nullptr) return Missing(key, expected);
    if (!value->is_number() || !(value->get<double>() >= min && value->get<double>() <= max)) {
      return Wrong(key, expected, *value);
    }
    return value->get<double>();
  }

  absl::StatusOr<bool> Bool(const char* key, bool absent) const {
    const json* value = Find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) return Wrong(key, "true or false", *value);
    return value->get<bool>();
  }

  absl::StatusOr<std::string> String(const char* key, std::string absent) const {
    const json* value = Find(key);
    if (value == nullptr) return absent;
    if (!value->is_string()) return Wrong(key, "a string", *value);
    return value->get<std::string>();
  }

  absl::Status Wrong(std::string_view key, std::string_view expected, const json& found) const {
    return InvalidArgument(Key(key), ": expected ", expected, ", found ", Describe(found));
  }

 private:
  absl::Status Missing(std::string_view key, std::string_view expected) const {
    return InvalidArgument(Key(key), " is missing, expected ", expected);
  }

  const json& object_;
  std::string where_;
};

// null, false, 0, "" and empty lists or objects say that a feature is off.
bool IsOff(const json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  return value.empty() || (value.is_string() && value.get_ref<const std::string&>().empty());
}

// Keys of other models that change the result: refused unless they are off, or 1 where they scale.
absl::Status CheckUnsupported(const Fields& fields) {
  static constexpr const char* kFeatures[] = {"add_cross_attention",
                                              "alibi",
                                              "attention_sink_size",
                                              "attn_logit_softcapping",
                                              "auto_map",
                                              "clip_qkv",
                                              "compression_config",
                                              "final_logit_softcapping",
                                              "is_encoder_decoder",
                                              "kv_lora_rank",
                                              "moe_intermediate_size",
                                              "n_routed_experts",
                                              "no_rope_layers",
                                              "num_experts",
                                              "num_local_experts",
                                              "parallel_attn",
                                              "pruned_heads",
                                              "qk_norm",
                                              "quantization_config",
                                              "rope_interleave",
                                              "rope_interleaved",
                                              "scale_attn_by_inverse_layer_idx",
                                              "use_qk_norm",
                                              "use_qk_normalization",
                                              "use_parallel_residual"};
  static constexpr const char* kScales[] = {
      "attention_multiplier", "embedding_multiplier",  "logit_scale",
      "logits_scaling",       "partial_rotary_factor", "residual_multiplier",
      "rotary_pct",           "scale_depth",           "scale_emb"};
  const auto refuse = [&](const char* key) {
    const json* value = fields.Find(key);
    return Unimplemented(fields.Key(key), " ", Describe(*value), " is not supported");
  };
  for (const char* key : kFeatures) {
    const json* value = fields.Find(key);
    if (value != nullptr && !IsOff(*value)) return refuse(key);
  }
  for (const char* key : kScales) {
    const json* value = fields.Find(key);
    if (value != nullptr && !(value->is_number() && value->get<double>() == 1)) return refuse(key);
  }
  return absl::OkStatus();
}

// All layers have a window or, where the architecture has none, no layer. What asks for something
// between is refused, and so is a window that the architecture does not have.
absl::StatusOr<int64_t> ParseWindow(const Fields& fields, bool has_windows) {
  static constexpr char kKey[] = "sliding_window";
  const json* value = fields.Find(kKey);
  const json* use = fields.Find("use_sliding_window");
  int64_t window = kNoWindow;
  std::string beside;
  if (value != nullptr && has_windows) {
    ASSIGN_OR_RETURN(window, fields.Int(kKey, 1, kNoWindow));
    beside = StrCat(" beside ", kKey, " ", window, ", which all layers have");
    const json* full = fields.Find("max_window_layers");  // the first so many have none
    if (full != nullptr && !IsOff(*full)) {
      return Unimplemented("max_window_layers ", Describe(*full), " is not supported", beside);
    }
    if (use != nullptr && IsOff(*use)) {
      return Unimplemented("use_sliding_window ", Describe(*use), " is not supported", beside);
    }
  } else if (value != nullptr && !IsOff(*value) && (use == nullptr || !IsOff(*use))) {
    return Unimplemented(kKey, " ", Describe(*value), " is not supported for this architecture");
  }
  if (const json* layers = fields.Find("layer_types"); layers != nullptr) {
    for (const json& layer : *layers) {
      if (layer == (beside.empty() ? "full_attention" : "sliding_attention")) continue;
      return Unimplemented("layer_types: ", Describe(layer), " is not supported", beside);
    }
  }
  return window;
}

absl::StatusOr<Architecture> ParseArchitecture(const Fields& fields,
                                               std::span<const Architecture> supported) {
  const json* list = fields.Find("architectures");
  if (list == nullptr) {
    return InvalidArgument("architectures is missing, expected [\"", supported[0].name, "\"]");
  }
  if (!list->is_array() || list->size() != 1 || !(*list)[0].is_string()) {
    return fields.Wrong("architectures", "a list of one name", *list);
  }
  const std::string name = (*list)[0].get<std::string>();
  const auto found =
      std::find_if(supported.begin(), supported.end(), [&](auto& a) { return a.name == name; });
  if (found == supported.end()) {
    std::vector<std::string> names;
    for (const Architecture& architecture : supported) names.emplace_back(architecture.name);
    return Unimplemented("architecture ", Quoted(name),
                         " is not supported; supported: ", Join(names, ", "));
  }
  const std::string expected(found->model_type);
  ASSIGN_OR_RETURN(const std::string type, fields.String("model_type", expected));
  if (type != expected) {
    return InvalidArgument("model_type: expected ", Quoted(expected), " with ", name, ", found ",
                           Quoted(type));
  }
  return *found;
}

absl::StatusOr<DType> ParseCheckpointDType(const Fields& fields) {
  const char* key = fields.Has("dtype") ? "dtype" : "torch_dtype";
  ASSIGN_OR_RETURN(std::string name, fields.String(key, "float32"));
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  return Unimplemented(key, " ", Quoted(name),
                       " is not supported; supported: float32, float16, bfloat16");
}

absl::StatusOr<std::vector<int32_t>> ParseEosIds(const Fields& fields, int64_t vocab) {
  static constexpr char kKey[] = "eos_token_id";
  const std::string expected = StrCat("ids from 0 to ", vocab - 1);
  std::vector<int32_t> ids;
  const auto add = [&](const json& value) -> absl::Status {
    const bool fits = value.is_number_unsigned() && value.get<uint64_t>() < uint64_t(vocab);
    if (!fits) return fields.Wrong(kKey, expected, value);
    ids.push_back(value.get<int32_t>());
    return absl::OkStatus();
  };
  const json* value = fields.Find(kKey);
  if (value == nullptr) return ids;
  if (value->is_array()) {
    for (const json& id : *value) RETURN_IF_ERROR(add(id));
  } else {
    RETURN_IF_ERROR(add(*value));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// ---- rotary positions ----

constexpr double kMaxFactor = 1e6;
constexpr double kTiny = 1e-6;

absl::StatusOr<RopeConfig::Type> ParseRopeType(const Fields& fields) {
  // transformers wrote "type" before "rope_type"; some models write both.
  ASSIGN_OR_RETURN(const std::string old_name, fields.String("type", ""));
  ASSIGN_OR_RETURN(const std::string name,
                   fields.String("rope_type", old_name.empty() ? "default" : old_name));
  if (!old_name.empty() && old_name != name) {
    return InvalidArgument(fields.Key("rope_type"), " ", Quoted(name), " and ", fields.Key("type"),
                           " ", Quoted(old_name), " differ");
  }
  if (name == "default") return RopeConfig::Type::kDefault;
  if (name == "linear") return RopeConfig::Type::kLinear;
  if (name == "dynamic") return RopeConfig::Type::kDynamic;
  if (name == "llama3") return RopeConfig::Type::kLlama3;
  if (name == "yarn") return RopeConfig::Type::kYarn;
  return Unimplemented(fields.Key("rope_type"), " ", Quoted(name),
                       " is not supported; supported: ", "default, linear, dynamic, llama3, yarn");
}

absl::Status CheckRopeKeys(const json& object, const Fields& fields) {
  // Those that a type does not use are harmless: Hugging Face ignores them too.
  static constexpr std::string_view kKnown[] = {"type",
                                                "rope_type",
                                                "rope_theta",
                                                "factor",
                                                "original_max_position_embeddings",
                                                "low_freq_factor",
                                                "high_freq_factor",
                                                "beta_fast",
                                                "beta_slow",
                                                "attention_factor",
                                                "mscale",
                                                "mscale_all_dim",
                                                "truncate",
                                                "finetuned"};
  for (const auto& [key, value] : object.items()) {
    const bool neutral = value.is_null() || (key == "partial_rotary_factor" && value == 1);
    if (!neutral && std::find(std::begin(kKnown), std::end(kKnown), key) == std::end(kKnown)) {
      return Unimplemented(fields.Key(Quoted(key)), " is not supported");
    }
  }
  return absl::OkStatus();
}

absl::Status ParseLlama3(const Fields& fields, RopeConfig* rope) {
  ASSIGN_OR_RETURN(rope->low_freq_factor, fields.Number("low_freq_factor", kTiny, kMaxFactor));
  ASSIGN_OR_RETURN(rope->high_freq_factor, fields.Number("high_freq_factor", kTiny, kMaxFactor));
  if (rope->high_freq_factor <= rope->low_freq_factor) {
    return InvalidArgument(fields.Key("high_freq_factor"), " ", rope->high_freq_factor,
                           " must be above low_freq_factor ", rope->low_freq_factor);
  }
  return absl::OkStatus();
}

absl::Status ParseYarn(const Fields& fields, RopeConfig* rope) {
  // Hugging Face takes 0 for absent in all but attention_factor.
  ASSIGN_OR_RETURN(rope->beta_fast, fields.Number("beta_fast", 0, kMaxFactor, 0));
  ASSIGN_OR_RETURN(rope->beta_slow, fields.Number("beta_slow", 0, kMaxFactor, 0));
  if (rope->beta_fast == 0) rope->beta_fast = 32;
  if (rope->beta_slow == 0) rope->beta_slow = 1;
  if (rope->beta_fast < rope->beta_slow) {
    return InvalidArgument(fields.Key("beta_fast"), " ", rope->beta_fast,
                           " must not be below beta_slow ", rope->beta_slow);
  }
  ASSIGN_OR_RETURN(rope->mscale, fields.Number("mscale", 0, kMaxFactor, 0));
  ASSIGN_OR_RETURN(rope->mscale_all_dim, fields.Number("mscale_all_dim", 0, kMaxFactor, 0));
  ASSIGN_OR_RETURN(rope->truncate, fields.Bool("truncate", true));
  if (fields.Has("attention_factor")) {
    ASSIGN_OR_RETURN(rope->attention_factor, fields.Number("attention_factor", kTiny, kMaxFactor));
  }
  return absl::OkStatus();
}

// `rope_parameters` (transformers 5, with rope_theta inside) or `rope_scaling`.
absl::StatusOr<RopeConfig> ParseRope(const json& root, const Fields& fields, int64_t max_positions,
                                     int64_t head_dim) {
  static const json kNothing = json::object();
  const json* parameters = fields.Find("rope_parameters");
  const json* scaling = fields.Find("rope_scaling");
  if (parameters != nullptr && scaling != nullptr) {
    return InvalidArgument("expected rope_parameters or rope_scaling, found both");
  }
  const char* key = parameters != nullptr ? "rope_parameters" : "rope_scaling";
  const json* object = parameters != nullptr ? parameters : scaling;
  if (object == nullptr) object = &kNothing;
  if (!object->is_object()) return fields.Wrong(key, "an object or null", *object);
  const Fields inner(*object, StrCat(key, "."));
  RETURN_IF_ERROR(CheckRopeKeys(*object, inner));

  RopeConfig rope;
  ASSIGN_OR_RETURN(rope.type, ParseRopeType(inner));
  const Fields& theta = inner.Has("rope_theta") ? inner : fields;
  ASSIGN_OR_RETURN(rope.theta, theta.Number("rope_theta", 1.001, 1e15, 10000));

  // A model's own key outside the object comes first, as in transformers.
  const bool scales_original =
      rope.type == RopeConfig::Type::kLlama3 || rope.type == RopeConfig::Type::kYarn;
  rope.original_max_positions = max_positions;
  if (scales_original) {
    static constexpr char kOriginal[] = "original_max_position_embeddings";
    const Fields& original = root.contains(kOriginal) ? fields : inner;
    ASSIGN_OR_RETURN(rope.original_max_positions,
                     original.Int(kOriginal, 1, kMaxPositions, max_positions));
  }
  const bool derived_factor =
      rope.type == RopeConfig::Type::kYarn && object->contains("factor") && !inner.Has("factor");
  if (derived_factor) {
    rope.factor =
        static_cast<double>(max_positions) / static_cast<double>(rope.original_max_positions);
  } else if (rope.type != RopeConfig::Type::kDefault) {
    ASSIGN_OR_RETURN(rope.factor, inner.Number("factor", 1, kMaxFactor));
  }
  if (rope.type == RopeConfig::Type::kLlama3) RETURN_IF_ERROR(ParseLlama3(inner, &rope));
  if (rope.type == RopeConfig::Type::kYarn) RETURN_IF_ERROR(ParseYarn(inner, &rope));
  if (rope.type == RopeConfig::Type::kDynamic && head_dim <= 2) {
    return InvalidArgument(inner.Key("rope_type"), " dynamic needs a head_dim above 2");
  }
  return rope;
}

// ---- the whole ----

absl::Status ParseHeads(const Fields& fields, ModelConfig* c) {
  ASSIGN_OR_RETURN(c->n_heads, fields.Int("num_attention_heads", 1, kMaxHeads));
  ASSIGN_OR_RETURN(c->n_kv_heads, fields.Int("num_key_value_heads", 1, kMaxHeads, c->n_heads));
  if (c->n_heads % c->n_kv_heads != 0) {
    return InvalidArgument("num_attention_heads ", c->n_heads,
                           " must be a multiple of num_key_value_heads ", c->n_kv_heads);
  }
  if (!fields.Has("head_dim") && c->hidden % c->n_heads != 0) {
    return InvalidArgument("hidden_size ", c->hidden, " must be a multiple of num_attention_heads ",
                           c->n_heads, " unless head_dim is given");
  }
  ASSIGN_OR_RETURN(c->head_dim, fields.Int("head_dim", 1, kMaxHeads, c->hidden / c->n_heads));
  if (c->head_dim < 2 || c->head_dim % 2 != 0) {
    return InvalidArgument("head_dim ", c->head_dim, " must be even");
  }
  if (c->n_heads * c->head_dim > kMaxDim) {
    return InvalidArgument("num_attention_heads ", c->n_heads, " times head_dim ", c->head_dim,
                           " must be at most ", kMaxDim);
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ParseConfig(json root, std::span<const Architecture> supported) {
  const Fields fields(root, "");
  ModelConfig c;
  ASSIGN_OR_RETURN(const Architecture architecture, ParseArchitecture(fields, supported));
  c.architecture = architecture.name;
  const json defaults = json::parse(architecture.defaults);
  for (const auto& [key, value] : defaults.items()) root.emplace(key, value);
  RETURN_IF_ERROR(CheckUnsupported(fields));
  ASSIGN_OR_RETURN(c.window, ParseWindow(fields, defaults.contains("sliding_window")));
  ASSIGN_OR_RETURN(c.hidden, fields.Int("hidden_size", 1, kMaxDim));
  ASSIGN_OR_RETURN(c.n_layers, fields.Int("num_hidden_layers", 1, kMaxLayers));
  RETURN_IF_ERROR(ParseHeads(fields, &c));
  ASSIGN_OR_RETURN(c.ffn, fields.Int("intermediate_size", 1, kMaxDim));
  ASSIGN_OR_RETURN(c.vocab, fields.Int("vocab_size", 1, kMaxDim));
  ASSIGN_OR_RETURN(c.max_positions, fields.Int("max_position_embeddings", 1, kMaxPositions, 2048));
  ASSIGN_OR_RETURN(const double eps, fields.Number("rms_norm_eps", 0, 1, 1e-6));
  c.rms_norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(c.tied_embeddings, fields.Bool("tie_word_embeddings", false));
  ASSIGN_OR_RETURN(c.attention_bias, fields.Bool("attention_bias", false));
  ASSIGN_OR_RETURN(c.mlp_bias, fields.Bool("mlp_bias", false));
  ASSIGN_OR_RETURN(const std::string activation, fields.String("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return Unimplemented("hidden_act ", Quoted(activation), " is not supported; supported: silu");
  }
  ASSIGN_OR_RETURN(c.dtype, ParseCheckpointDType(fields));
  ASSIGN_OR_RETURN(c.rope, ParseRope(root, fields, c.max_positions, c.head_dim));
  ASSIGN_OR_RETURN(c.eos_ids, ParseEosIds(fields, c.vocab));
  return c;
}

}  // namespace

std::string ArithmeticHash(const ModelConfig& c) {
  StableHash hash;
  hash.Add(c.architecture);
  for (const int64_t n : {c.hidden, c.n_layers, c.n_heads, c.n_kv_heads, c.head_dim, c.ffn, c.vocab,
                          c.max_positions, c.rope.original_max_positions, c.window}) {
    hash.Add(static_cast<uint64_t>(n));
  }
  for (const bool flag : {c.tied_embeddings, c.attention_bias, c.mlp_bias, c.rope.truncate}) {
    hash.Add(uint64_t{flag});
  }
  hash.Add(static_cast<uint64_t>(c.activation));
  hash.Add(static_cast<uint64_t>(c.rope.type));
  for (const double x :
       {static_cast<double>(c.rms_norm_eps), c.rope.theta, c.rope.factor, c.rope.low_freq_factor,
        c.rope.high_freq_factor, c.rope.beta_fast, c.rope.beta_slow, c.rope.attention_factor,
        c.rope.mscale, c.rope.mscale_all_dim}) {
    hash.Add(std::bit_cast<uint64_t>(x));
  }
  return hash.Hex().substr(0, 16);
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config,
                                             std::string_view generation_config,
                                             std::span<const Architecture> supported) {
  const auto root = ParseJsonObject(config);
  if (!root.ok()) return Annotate(root.status(), "config.json");
  auto parsed = ParseConfig(*root, supported);
  if (!parsed.ok()) return Annotate(parsed.status(), "config.json");
  if (generation_config.empty()) return parsed;

  const auto generation = ParseJsonObject(generation_config);
  if (!generation.ok()) return Annotate(generation.status(), "generation_config.json");
  const Fields fields(*generation, "");
  const auto eos_ids = ParseEosIds(fields, parsed->vocab);
  if (!eos_ids.ok()) return Annotate(eos_ids.status(), "generation_config.json");
  if (fields.Has("eos_token_id")) parsed->eos_ids = *eos_ids;
  return parsed;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& directory,
                                            std::span<const Architecture> supported) {
  ASSIGN_OR_RETURN(const std::string config, ReadFile(StrCat(directory, "/config.json")));
  const std::string generation_path = StrCat(directory, "/generation_config.json");
  std::string generation;
  if (FileExists(generation_path)) {
    ASSIGN_OR_RETURN(generation, ReadFile(generation_path));
  }
  auto parsed = ParseModelConfig(config, generation, supported);
  if (!parsed.ok())
    return absl::Status(parsed.status().code(), StrCat(directory, "/", Message(parsed.status())));
  return parsed;
}

}  // namespace trireme
