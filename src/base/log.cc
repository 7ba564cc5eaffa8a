#include "base/log.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "base/log_fields.h"
#include "base/str.h"
#include "nlohmann/json.hpp"
#include "spdlog/fmt/chrono.h"
#include "spdlog/formatter.h"
#include "spdlog/sinks/stdout_color_sinks.h"

namespace trireme {
namespace {

std::atomic<bool> is_json = false;
// Of the line that this thread writes: formatters see a line's text alone.
thread_local const nlohmann::ordered_json* fields_of_line = nullptr;

std::string NameOf(const LogRole& who) {
  if (who.rank < 0) return who.role;
  return StrCat(who.replica < 0 ? "" : StrCat("replica ", who.replica, " "), "rank ", who.rank);
}

// RFC 3339, in UTC, to the millisecond.
std::string Timestamp(spdlog::log_clock::time_point time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch());
  return fmt::format("{}.{:03}Z",
                     fmt::format("{:%FT%T}", fmt::gmtime(spdlog::log_clock::to_time_t(time))),
                     ms.count() % 1000);
}

class JsonFormatter : public spdlog::formatter {
 public:
  explicit JsonFormatter(LogRole who) : who_(std::move(who)) {}

  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    using Json = nlohmann::ordered_json;
    const auto level = spdlog::level::to_string_view(line.level);
    Json json = {{"ts", Timestamp(line.time)},
                 {"level", std::string(level.data(), level.size())},
                 {"role", who_.role}};
    if (who_.replica >= 0) json["replica"] = who_.replica;
    if (who_.rank >= 0) json["rank"] = who_.rank;
    json["message"] = std::string(line.payload.data(), line.payload.size());
    if (fields_of_line != nullptr) json.update(*fields_of_line);
    const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    out.append(text.data(), text.data() + text.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>(who_);
  }

 private:
  const LogRole who_;
};

}  // namespace

void InitLog(const LogRole& who, const LogOptions& options) {
  auto logger = std::make_shared<spdlog::logger>(
      NameOf(who), std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  is_json = options.format == "json";
  if (is_json) {
    logger->set_formatter(std::make_unique<JsonFormatter>(who));
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%L%$ [%n] %v");
  }
  logger->set_level(spdlog::level::from_str(options.level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

bool LogIsJson() { return is_json; }

void LogWithFields(spdlog::level::level_enum level, const std::string& message,
                   const nlohmann::ordered_json& fields) {
  fields_of_line = &fields;
  spdlog::log(level, "{}", message);
  fields_of_line = nullptr;
}

}  // namespace trireme
