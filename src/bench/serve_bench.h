// How a server does under load: open loop (requests arrive by themselves, whatever the server
// does) or closed loop (so many clients, each of which sends its next request when it has the
// answer).
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/load.h"
#include "bench/serve_summary.h"
#include "bench/target.h"

namespace trireme {

struct ServeBenchOptions {
  TargetOptions target;
  bool http = false;  // else gRPC
  LoadOptions load;
  std::vector<double> rates;       // requests/s, a run each: a Poisson process
  std::vector<int> concurrencies;  // clients, a run each
  // With neither, a trace with timestamps is sent at its own times, anything else by one client.
  size_t requests = 100;  // of a run
  double duration_s = 0;  // sends for this long instead; 0: by requests
  size_t warmup = 0;      // requests before each run that do not count, 16 at a time
  GoodputLimits goodput;
  bool progress = false;  // a line on stderr that tells how far it is
  std::string json;       // also write the figures to this file
};

// Prints a line of figures per run. UNAVAILABLE if no request of any run succeeded.
absl::Status RunServeBench(const ServeBenchOptions& options, std::ostream& out);

}  // namespace trireme
