// Lines of the log about those who are refused.
#include "server/refusal_log.h"

#include <sstream>
#include <thread>

#include "base/log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"

namespace trireme {
namespace {

TEST(RefusalLogTest, OneLineSpeaksForMany) {
  const auto before = spdlog::default_logger();
  std::ostringstream said;
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(said)));
  constexpr std::chrono::milliseconds kInterval{200};
  RefusalLog log(kInterval);
  const absl::Status why = absl::UnauthenticatedError("no key");
  for (int port = 1; port <= 3; ++port) log.Note("10.0.0.1:" + std::to_string(port), why);
  std::this_thread::sleep_for(kInterval);  // what is tested is a time that passes
  log.Note("10.0.0.2:9", why);
  spdlog::set_default_logger(before);
  EXPECT_THAT(said.str(), testing::HasSubstr("10.0.0.1:1 is refused: no key\n"));
  EXPECT_THAT(said.str(), testing::Not(testing::HasSubstr("10.0.0.1:2")));
  EXPECT_THAT(said.str(),
              testing::HasSubstr("10.0.0.2:9 is refused: no key; so were 2 others since the last"));
}

}  // namespace
}  // namespace trireme
