#include "server/worker_pool.h"

#include <future>

#include "gtest/gtest.h"

namespace trireme {
namespace {

TEST(WorkerPoolTest, WhatWaitsIsBoundedByCountAndByBytes) {
  std::promise<void> began, go, done;
  WorkerPool pool(1, /*max_jobs=*/3, /*nice=*/0, /*max_bytes=*/100);
  ASSERT_TRUE(pool.Run(1000, [&] {  // nothing waits: it may be large
    began.set_value();
    go.get_future().wait();
  }));
  began.get_future().wait();
  EXPECT_TRUE(pool.Run(60, [] {}));
  EXPECT_FALSE(pool.Run(41, [] {}));
  EXPECT_TRUE(pool.Run(40, [] {}));
  EXPECT_TRUE(pool.RunNext([] {}));
  EXPECT_FALSE(pool.Run(0, [] {}));  // by count
  go.set_value();
  pool.Stop();

  WorkerPool again(1, /*max_jobs=*/3, /*nice=*/0, /*max_bytes=*/100);
  for (int i = 0; i < 5; ++i) {  // what has run takes nothing
    std::promise<void> ran;
    EXPECT_TRUE(again.Run(100, [&] { ran.set_value(); }));
    ran.get_future().wait();
  }
}

}  // namespace
}  // namespace trireme
