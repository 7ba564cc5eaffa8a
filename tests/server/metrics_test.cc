// What Prometheus is told, of a controller core on the bench.
#include "server/metrics.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "base/file.h"
#include "base/str.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/refusal.h"
#include "tests/server/core_bench.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;
using testing::Not;

GenerateRequest Request(const std::string& prompt, int32_t max_tokens) {
  GenerateRequest request;
  request.model = "m";
  request.ids = Ids(prompt);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  return request;
}

class MetricsTest : public testing::Test {
 protected:
  // What has been measured since, and what is told then.
  std::string Told() {
    for (const Observe& observed : bench.observed) metrics.Add(observed);
    bench.observed.clear();
    return metrics.Render(bench.core);
  }
  void Step(uint64_t link) {
    bench.Step(link);
    Look(link);
  }
  // The replica has counted so much since its start.
  void Report(uint64_t link, ReplicaStats stats) {
    bench.Report(link, {.stats = stats});
    Look(link);
  }
  uint64_t Up(int32_t number, uint64_t instance = 0, const std::string& model = "m") {
    ReplicaInfo info = Info();
    info.number = number;
    info.model = model;
    return bench.Up(info, instance);
  }

  CoreBench bench{{.max_requests = 2}};
  Metrics metrics;

 private:
  void Look(uint64_t link) { metrics.AddReport(bench.core, bench.core.replicas().at(link)); }
};

// "TYPE NAME {LABELS}" of each family.
std::string Families(const std::string& told) {
  std::map<std::string, std::string> types;
  std::map<std::string, std::set<std::string>> labels;  // by "TYPE NAME"
  for (const std::string& line : SplitString(told, '\n')) {
    if (line.starts_with("# TYPE ")) {
      const std::string name = line.substr(7, line.rfind(' ') - 7);
      types[name] = line.substr(line.rfind(' ') + 1) + " " + name;
      labels[types[name]];
    }
    if (line.empty() || line[0] == '#') continue;
    std::string name = line.substr(0, line.find_first_of("{ "));
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      if (!types.contains(name) && name.ends_with(suffix)) {
        name = name.substr(0, name.size() - std::string_view(suffix).size());
      }
    }
    for (size_t end = line.find("=\""); end != std::string::npos; end = line.find("=\"", end + 1)) {
      const size_t begin = line.find_last_of("{,", end) + 1;
      labels[types[name]].insert(line.substr(begin, end - begin));
    }
  }
  std::string text;
  for (const auto& [family, names] : labels) {
    text += family;
    for (const std::string& name : names) text += " " + name;
    text += "\n";
  }
  return text;
}

TEST_F(MetricsTest, NamesTypesAndLabelsAreAsCommitted) {
  const uint64_t link = Up(0);
  GenerateRequest request = Request("abc", 2);
  request.tenant = "team";
  bench.Generate(request);
  for (int i = 0; i < 4; ++i) Step(link);
  metrics.AddHttp("/v1/completions", 200);
  metrics.Watch("http_connections", "Open HTTP connections.", [] { return 1.0; });
  metrics.Add({Measure::kDiskFull, nullptr, 0});
  const std::string path = std::string(TRIREME_SOURCE_DIR) + "/tests/golden/metrics/families.txt";
  const std::string told = Families(Told());
  if (std::getenv("TRIREME_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFile(path, told).ok());
  }
  EXPECT_EQ(told, ReadFile(path).value_or("")) << "TRIREME_UPDATE_GOLDEN=1 writes it";
}

TEST_F(MetricsTest, OnlyWhatVllmHasGetsItsPrefix) {
  Metrics as_vllm("vllm:");
  const std::string told = as_vllm.Render(bench.core);
  Up(0);
  EXPECT_THAT(as_vllm.Render(bench.core),
              HasSubstr("vllm:num_requests_running{model_name=\"m\"} 0"));
  EXPECT_THAT(told, HasSubstr("trireme_replicas_lost_total 0"));
  EXPECT_THAT(told, HasSubstr("process_resident_memory_bytes "));
}

TEST_F(MetricsTest, ARestartedReplicaGoesOnInItsSeries) {
  const uint64_t first = Up(3);
  Report(first, {.steps = 1, .prefix_queries = 10, .prefix_hits = 4, .preemptions = 1});
  bench.Down(first);
  EXPECT_THAT(Told(), HasSubstr("prefix_cache_queries_total{model_name=\"m\",engine=\"3\"} 10"));
  EXPECT_THAT(Told(), Not(HasSubstr("kv_cache_usage_perc{")));
  const uint64_t second = Up(3);
  EXPECT_THAT(Told(), HasSubstr("prefix_cache_queries_total{model_name=\"m\",engine=\"3\"} 10"));
  Report(second, {.steps = 1, .prefix_queries = 5, .prefix_hits = 5});
  const std::string told = Told();
  EXPECT_THAT(told, HasSubstr("prefix_cache_queries_total{model_name=\"m\",engine=\"3\"} 15"));
  EXPECT_THAT(told, HasSubstr("prefix_cache_hits_total{model_name=\"m\",engine=\"3\"} 9"));
  EXPECT_THAT(told, HasSubstr("num_preemptions_total{model_name=\"m\",engine=\"3\"} 1"));
  EXPECT_THAT(told, HasSubstr("kv_cache_usage_perc{model_name=\"m\",engine=\"3\"} 0"));
}

TEST_F(MetricsTest, AReplicaThatDialsAgainIsNotCountedTwice) {
  for (int32_t number : {-1, 7}) {
    const uint64_t instance = 50 + static_cast<uint64_t>(number);
    Report(Up(number, instance), {.steps = 1, .prefix_queries = 10});
    Report(Up(number, instance), {.steps = 2, .prefix_queries = 12});
  }
  for (const char* engine : {"0", "7"}) {
    EXPECT_THAT(Told(), HasSubstr(StrCat("prefix_cache_queries_total{model_name=\"m\",engine=\"",
                                         engine, "\"} 12")));
  }
}

TEST_F(MetricsTest, ReplicasWithoutANumberTakeTheLowestThatIsFree) {
  Report(Up(0), {.prefix_queries = 1});
  const uint64_t one = Up(-1);
  Report(one, {.prefix_queries = 10});
  Report(Up(-1), {.prefix_queries = 100});
  for (int restarts = 0; restarts < 5; ++restarts) {
    bench.Down(one + static_cast<uint64_t>(restarts == 0 ? 0 : restarts + 1));
    Report(Up(-1), {.prefix_queries = 10});
  }
  Report(Up(-1, 0, "other"), {.prefix_queries = 7});
  const std::string told = Told();
  EXPECT_THAT(told, HasSubstr("prefix_cache_queries_total{model_name=\"m\",engine=\"0\"} 1\n"));
  EXPECT_THAT(told, HasSubstr("prefix_cache_queries_total{model_name=\"m\",engine=\"1\"} 60\n"));
  EXPECT_THAT(told, HasSubstr("prefix_cache_queries_total{model_name=\"m\",engine=\"2\"} 100\n"));
  EXPECT_THAT(told, HasSubstr("prefix_cache_queries_total{model_name=\"other\",engine=\"0\"} 7\n"));
  EXPECT_THAT(told, Not(HasSubstr("engine=\"3\"")));
}

TEST_F(MetricsTest, TheOlderOfTwoOfANumberSaysNothing) {
  const uint64_t silent = Up(0);
  Report(silent, {.prefix_queries = 5});
  const uint64_t fresh = Up(0);
  Report(fresh, {.prefix_queries = 2});
  Report(silent, {.prefix_queries = 6});
  Report(fresh, {.prefix_queries = 3});
  EXPECT_THAT(Told(), HasSubstr("prefix_cache_queries_total{model_name=\"m\",engine=\"0\"} 8\n"));
}

TEST_F(MetricsTest, StepsThatComeTogetherAreAveraged) {
  const uint64_t link = Up(0);
  Report(link, {.steps = 1, .prompt_tokens = 60, .generated_tokens = 4});
  Report(link, {.steps = 4, .prompt_tokens = 60, .generated_tokens = 7});
  const std::string told = Told();
  EXPECT_THAT(told, HasSubstr("iteration_tokens_total_sum{model_name=\"m\"} 67\n"));
  EXPECT_THAT(told, HasSubstr("iteration_tokens_total_bucket{model_name=\"m\",le=\"1\"} 3\n"));
  EXPECT_THAT(told, HasSubstr("iteration_tokens_total_bucket{model_name=\"m\",le=\"64\"} 4\n"));
}

TEST_F(MetricsTest, StepsBeforeTheLinkAreNone) {
  Report(Up(0), {.steps = 1000000, .generated_tokens = 1000000});
  EXPECT_THAT(Told(), Not(HasSubstr("iteration_tokens_total_count{model_name=\"m\"} 1000000")));
}

TEST_F(MetricsTest, ReadyAreThoseOfAModelThatStay) {
  EXPECT_THAT(Told(), HasSubstr("trireme_replicas_ready 0\n"));
  const uint64_t link = Up(0);
  Up(1);
  Up(-1, 0, "other");
  EXPECT_THAT(Told(), HasSubstr("trireme_replicas_ready{model_name=\"m\"} 2\n"));
  EXPECT_THAT(Told(), HasSubstr("trireme_replicas_ready{model_name=\"other\"} 1\n"));
  bench.Generate(Request("abc", 5));
  bench.Generate(Request("abc", 5));
  ASSERT_TRUE(bench.Drain(link).ok());
  EXPECT_THAT(Told(), HasSubstr("trireme_replicas_ready{model_name=\"m\"} 1\n"));
}

TEST_F(MetricsTest, TenantsHaveLoadsOfTheirOwn) {
  const uint64_t link = Up(0);
  GenerateRequest request = Request("abc", 3);
  bench.Generate(request);
  request.tenant = "team";
  bench.Generate(request);
  Step(link);
  const std::string told = Told();
  const std::string of = "{model_name=\"m\",tenant=\"team\"} ";
  EXPECT_THAT(told, HasSubstr("trireme_tenant_requests_running" + of + "1\n"));
  EXPECT_THAT(told, HasSubstr("trireme_tenant_requests_waiting" + of + "0\n"));
  EXPECT_THAT(
      told, HasSubstr(StrCat("trireme_tenant_prompt_tokens_total", of, request.ids.size(), "\n")));
  EXPECT_THAT(told, HasSubstr("trireme_tenant_generation_tokens_total" + of + "1\n"));
  EXPECT_THAT(told, Not(HasSubstr("tenant=\"\"")));
}

TEST_F(MetricsTest, RefusalsHaveReasons) {
  EXPECT_THAT(Told(), HasSubstr("trireme_requests_refused_total{reason=\"queue_full\"} 0\n"));
  Up(0);
  GenerateRequest bad = Request("abc", 3);
  bad.temperature = -1;
  bench.Generate(bad);
  GenerateRequest bounded = Request("abc", 3);
  bounded.tenant = "team";
  bounded.max_tenant_requests = 1;
  for (int i = 0; i < 2; ++i) bench.Generate(bounded);
  for (int i = 0; i < 3; ++i) bench.Generate(Request("abc", 3));
  const std::string told = Told();
  const auto refused = [&](std::string_view reason, int n) {
    return HasSubstr(StrCat("trireme_requests_refused_total{reason=\"", reason, "\"} ", n, "\n"));
  };
  EXPECT_THAT(told, refused(kInvalid, 1));
  EXPECT_THAT(told, refused(kTenantLimit, 1));
  EXPECT_THAT(told, refused(kQueueFull, 2));
  EXPECT_THAT(told, HasSubstr("trireme_requests_open 2\n"));
  EXPECT_THAT(told, HasSubstr("trireme_requests_limit 2\n"));
}

TEST(RefusalTest, IsWhatWasSaidElseByTheCode) {
  EXPECT_EQ(RefusalReason(Because(kDiskFull, ResourceExhausted("full"))), kDiskFull);
  EXPECT_EQ(RefusalReason(ResourceExhausted("full")), kBusy);
  EXPECT_EQ(RefusalReason(absl::UnauthenticatedError("")), kUnauthenticated);
  EXPECT_EQ(RefusalReason(Because("nonsense", absl::UnknownError(""))), kOther);
}

}  // namespace
}  // namespace trireme::test
