#include "bench/sse_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace trireme {
namespace {

TEST(SseReader, DataInWhateverPiecesItComes) {
  const std::string stream =
      "data: {\"a\": 1}\n\n: a comment\n\ndata:two\r\n\r\nevent: x\ndata: [DONE]\n\n";
  for (size_t size = 1; size <= stream.size(); ++size) {
    SseReader reader;
    std::vector<std::string> found;
    for (size_t i = 0; i < stream.size(); i += size) {
      reader.Add(stream.substr(i, size), [&](std::string_view data) { found.emplace_back(data); });
    }
    EXPECT_THAT(found, testing::ElementsAre("{\"a\": 1}", "two", "[DONE]")) << size;
  }
}

}  // namespace
}  // namespace trireme
