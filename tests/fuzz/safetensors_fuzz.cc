// What a model's directory says, from arbitrary bytes: safetensors headers, the index of shards and
// config.json. Each is refused with one short line, or is as its parser promises.
#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "runtime/config.h"
#include "runtime/rope.h"
#include "runtime/safetensors.h"

namespace trireme {
namespace {

constexpr char kConfig[] = R"({"architectures":["LlamaForCausalLM"],"hidden_size":8,
  "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"vocab_size":8})";

constexpr Architecture kArchitectures[] = {
    {"LlamaForCausalLM", "llama"},
    {"MistralForCausalLM", "mistral", R"({"sliding_window": 4096})"}};

void CheckError(const absl::Status& status) {
  const std::string message = Message(status);
  CHECK(!message.empty() && message.size() < 1000) << message.size();
  CHECK(message.find('\n') == std::string::npos);
}

void FuzzHeader(const std::string& file) {
  const auto header = ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size());
  if (!header.ok()) return CheckError(header.status());
  uint64_t end = SafetensorsDataBegin(std::as_bytes(std::span(file)), file.size()).value();
  for (const SafetensorsTensor& tensor : header->tensors) {
    CHECK_EQ(tensor.begin, end);
    CHECK_LE(tensor.begin, tensor.end);
    end = tensor.end;
    if (const auto dtype = UsableDType(tensor.dtype)) {
      uint64_t bytes = SizeOf(*dtype);
      for (int64_t dim : tensor.shape) bytes *= static_cast<uint64_t>(dim);
      CHECK_EQ(bytes, tensor.end - tensor.begin);
    }
  }
  CHECK_EQ(end, file.size());
}

void FuzzConfig(const std::string& text) {
  const auto generation = ParseModelConfig(kConfig, text, kArchitectures);
  if (!generation.ok()) CheckError(generation.status());
  const auto config = ParseModelConfig(text, "", kArchitectures);
  if (!config.ok()) return CheckError(config.status());
  CHECK_EQ(config->n_heads % config->n_kv_heads, 0);
  CHECK_GE(config->context(), config->max_positions);
  if (config->head_dim > 1024) return;
  const Rope rope(*config);
  std::vector<float> cos(static_cast<size_t>(rope.half_dim()));
  std::vector<float> sin(cos.size());
  const int32_t last = static_cast<int32_t>(config->max_positions - 1);
  rope.Fill({&last, 1}, cos.data(), sin.data());
  for (size_t i = 0; i < cos.size(); ++i) {
    CHECK(cos[i] == cos[i] && sin[i] == sin[i]) << "NaN at frequency " << i;
  }
}

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const std::string input(reinterpret_cast<const char*>(data), size);
  FuzzHeader(input);
  if (!input.empty() && input[0] == '{') {
    // As a header of a file with some data, so that the length need not be guessed.
    const uint64_t length = size;
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, sizeof(length));
    FuzzHeader(file + input + std::string(16, 'x'));
    FuzzConfig(input);
    const auto index = ParseSafetensorsIndex(input);
    if (!index.ok()) CheckError(index.status());
  }
  return 0;
}
