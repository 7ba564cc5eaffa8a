#include "runtime/step_plan.h"

#include <cstring>
#include <type_traits>

namespace trireme {
namespace {

class Writer {
 public:
  template <typename T>
  void operator()(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    Append(&value, sizeof(value));
  }
  template <typename T>
  void operator()(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    (*this)(static_cast<uint64_t>(values.size()));
    Append(values.data(), values.size() * sizeof(T));
  }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  void Append(const void* data, size_t n) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + n);
  }
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  void operator()(T& value) {
    Take(&value, sizeof(value));
  }
  template <typename T>
  void operator()(std::vector<T>& values) {
    uint64_t n = 0;
    (*this)(n);
    CHECK_LE(n * sizeof(T), bytes_.size());
    values.resize(n);
    Take(values.data(), n * sizeof(T));
  }
  bool done() const { return bytes_.empty(); }

 private:
  void Take(void* data, size_t n) {
    CHECK_LE(n, bytes_.size()) << "a step message is cut short";
    if (n > 0) std::memcpy(data, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
  }
  std::span<const std::byte> bytes_;
};

// The one list of fields, walked by both directions.
template <typename Archive, typename Plan>
void PlanFields(Archive& archive, Plan& plan) {
  archive(plan.kind);
  archive(plan.sequence_parallel);
  archive(plan.id);
  archive(plan.tokens);
  archive(plan.positions);
  archive(plan.slots);
  archive(plan.q_starts);
  archive(plan.kv_lens);
  archive(plan.block_table);
  archive(plan.max_blocks);
  archive(plan.dropout);
  archive(plan.samples);
  archive(plan.edits);
}

}  // namespace

std::vector<std::byte> Serialize(const StepPlan& plan) {
  Writer writer;
  PlanFields(writer, plan);
  return writer.Take();
}

StepPlan ParsePlan(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  StepPlan plan;
  PlanFields(reader, plan);
  CHECK(reader.done());
  return plan;
}

std::vector<std::byte> Serialize(const StepResult& result) {
  Writer writer;
  writer(result.plan_id);
  writer(result.ids);
  writer(result.logprobs);
  return writer.Take();
}

StepResult ParseResult(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  StepResult result;
  reader(result.plan_id);
  reader(result.ids);
  reader(result.logprobs);
  CHECK(reader.done());
  return result;
}

}  // namespace trireme
