// What one rendering may use up, and the owner of what it makes.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

// Beyond one of them a rendering ends with RESOURCE_EXHAUSTED.
struct Limits {
  int64_t steps = 4'000'000;           // nodes evaluated, items made or compared, 256 bytes read
  int64_t bytes = int64_t{256} << 20;  // of all strings and containers made, and of the result
  int depth = 400;  // of expressions and statements in one another, macros included
};

inline constexpr int kMaxValueDepth = 100;    // of containers in containers
inline constexpr int64_t kMaxRange = 100000;  // items; jinja2's sandbox has the same bound

class Runtime {
 public:
  Runtime(const Limits& limits, const std::tm& now) : limits_(limits), now_(now) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  absl::Status Spend(int64_t steps = 1);
  absl::Status SpendOn(const Value& value);  // for going through a text once
  absl::Status Charge(size_t bytes);         // before the bytes are made, where they may be many
  const Limits& limits() const { return limits_; }
  const std::tm& now() const { return now_; }

  template <typename T, typename... Args>
  T* New(Args&&... args) {
    auto object = std::make_unique<T>(std::forward<Args>(args)...);
    T* pointer = object.get();
    objects_.push_back(std::move(object));
    return pointer;
  }

  // Each charges what it makes.
  absl::StatusOr<Value> MakeText(std::string bytes, bool markup = false);
  absl::StatusOr<Value> MakeList(std::vector<Value> items);
  absl::StatusOr<Value> MakeTuple(std::vector<Value> items);
  absl::StatusOr<Value> MakeIterator(std::vector<Value> items);
  absl::StatusOr<Value> MakeSequence(Sequence::Flavor flavor, std::vector<Value> items);
  absl::StatusOr<Value> MakeDict(std::vector<Dict::Entry> entries);  // keys may repeat
  absl::StatusOr<Value> MakeFunction(Function::Body body);

 private:
  absl::Status SetDepth(Object* object, int depth_of_items);

  const Limits limits_;
  const std::tm now_;
  int64_t steps_ = 0;
  int64_t bytes_ = 0;
  std::vector<std::unique_ptr<Object>> objects_;
};

// Parameters by position or by name, as Python binds them:
//   ASSIGN_OR_RETURN(const auto p, Bind(arguments, "indent", {"width", "first", "blank"}));
// A parameter that was not given is nullptr; too many, unknown or repeated ones are errors.
absl::StatusOr<std::vector<const Value*>> Bind(const Arguments& arguments,
                                               std::string_view function,
                                               std::initializer_list<std::string_view> parameters);

}  // namespace trireme::jinja
