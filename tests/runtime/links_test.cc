#include "runtime/links.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using testing::ElementsAre;

// What a link is told.
struct Told {
  std::vector<StepReport> reports;
  Replica::Sink sink() {
    return [this](StepReport&& report) { reports.push_back(std::move(report)); };
  }
  Credits credits() const {
    for (auto it = reports.rbegin(); it != reports.rend(); ++it) {
      if (it->credits.has_value()) return *it->credits;
    }
    return {};
  }
};

SequenceRequest Request(uint64_t id, size_t n_prompt = 1) {
  return {.id = id, .prompt_ids = std::vector<int32_t>(n_prompt, 1), .max_tokens = 9};
}

uint64_t Add(Links& links, uint64_t link, SequenceRequest request) {
  EXPECT_TRUE(links.Add(link, request));
  return request.id;
}

TEST(LinksTest, EachIsToldOfItsOwnByItsOwnIds) {
  Links links({.sequences = 8, .kv_tokens = 100});
  Told a, b;
  links.Open(1, a.sink());
  links.Open(2, b.sink());
  const uint64_t of_a = Add(links, 1, Request(7)), of_b = Add(links, 2, Request(7));
  EXPECT_NE(of_a, of_b);
  EXPECT_EQ(links.Find(2, 7), of_b);
  EXPECT_EQ(links.Find(2, 8), 0u);
  SequenceRequest again = Request(7);
  EXPECT_FALSE(links.Add(2, again));
  EXPECT_EQ(links.Find(3, 7), 0u);
  links.Report({.deltas = {{.id = of_b, .ids = {5}}, {.id = of_a, .ids = {6}}}}, false, 0);
  ASSERT_EQ(a.reports.size(), 1u);
  EXPECT_EQ(a.reports[0].deltas[0].id, 7u);
  EXPECT_THAT(a.reports[0].deltas[0].ids, ElementsAre(6));
  EXPECT_THAT(b.reports[0].deltas[0].ids, ElementsAre(5));

  const SequenceDelta end{.id = of_b, .offset = 1, .finish = FinishReason::kLength};
  links.Report({.deltas = {end}}, false, 0);
  EXPECT_EQ(links.Find(2, 7), 0u);
  Add(links, 2, Request(7));  // another sequence by now
}

TEST(LinksTest, WhatAClosedLinkHadIsToldNobody) {
  Links links({.sequences = 8, .kv_tokens = 100});
  Told a, b;
  links.Open(1, a.sink());
  links.Open(2, b.sink());
  const uint64_t of_a = Add(links, 1, Request(7));
  const uint64_t of_b = Add(links, 2, Request(7));
  EXPECT_THAT(links.Close(1), ElementsAre(of_a));
  SequenceRequest late = Request(9);
  EXPECT_FALSE(links.Add(1, late));
  links.Report({.deltas = {{.id = of_a, .finish = FinishReason::kCancelled}}}, false, 0);
  EXPECT_TRUE(a.reports.empty());
  EXPECT_EQ(links.Find(2, 7), of_b);
}

TEST(LinksTest, TheOnlyLinkHasItAll) {
  Links links({.sequences = 8, .kv_tokens = 100});
  Told a;
  links.Open(1, a.sink());
  links.Report({}, false, 100);
  EXPECT_EQ(a.credits(), (Credits{8, 100}));
  for (uint64_t id = 1; id <= 8; ++id) Add(links, 1, Request(id, 10));
  links.Report({}, true, 12);
  EXPECT_EQ(a.credits(), (Credits{8, 100}));
  links.Report({}, true, 50);  // prompts that share their blocks leave more
  EXPECT_EQ(a.credits(), (Credits{8, 130}));
}

TEST(LinksTest, NewsAloneAreTold) {
  Links links({.sequences = 8, .kv_tokens = 100});
  Told a;
  links.Open(1, a.sink());
  links.Report({}, false, 100);
  links.Report({}, false, 100);
  EXPECT_EQ(a.reports.size(), 1u);
  links.Report({}, true, 100);
  ASSERT_EQ(a.reports.size(), 2u);
  EXPECT_FALSE(a.reports[1].credits.has_value());
}

TEST(LinksTest, LinksShareWhatIsFree) {
  Links links({.sequences = 8, .kv_tokens = 100});
  Told a, b;
  links.Open(1, a.sink());
  for (uint64_t id = 1; id <= 8; ++id) Add(links, 1, Request(id, 10));
  links.Open(2, b.sink());
  links.Report({}, true, 20);
  EXPECT_EQ(a.credits(), (Credits{8, 90})) << "what it has, and half of what is left";
  EXPECT_EQ(b.credits(), (Credits{4, 50})) << "its half, when there is some";
  const SequenceDelta end{.id = links.Find(1, 1), .finish = FinishReason::kLength};
  links.Report({.deltas = {end}}, true, 30);
  EXPECT_EQ(a.credits(), (Credits{8, 85}));
  EXPECT_EQ(b.credits(), (Credits{4, 50}));
  links.Close(1);
  links.Report({}, true, 100);
  EXPECT_EQ(b.credits(), (Credits{8, 100}));
}

}  // namespace
}  // namespace trireme
