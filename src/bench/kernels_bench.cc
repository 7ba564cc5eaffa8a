#include "bench/kernels_bench.h"

#include <algorithm>
#include <iomanip>
#include <ostream>

#include "base/build_id.h"
#include "base/file.h"
#include "bench/kernel_cases.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class KernelsBench {
 public:
  KernelsBench(const KernelsBenchOptions& options, const Device& device, DeviceProbe& probe,
               std::vector<KernelCase> cases)
      : options_(options), device_(device), probe_(probe) {
    for (KernelCase& c : cases) measured_.push_back({std::move(c), {}});
  }

  // The bounds are probed between the cases: a shared machine changes within a run, so that a case
  // is held against the better of the probes just before and just after it.
  void Measure() {
    // All once before any is recorded: their scratch memory stays where it is then.
    for (Measured& m : measured_) m.c.work.call(0);
    for (int round = 0; round < options_.rounds; ++round) {
      Probed before = Probe();
      for (Measured& m : measured_) {
        const double seconds = probe_.SecondsPerCall(m.c.work);
        const Probed after = Probe();
        const double memory = m.c.bytes / std::max(before.bandwidth, after.bandwidth);
        const double math = m.c.flops / std::max(before.rate, after.rate);
        m.samples.push_back(
            {seconds, memory / seconds, math / seconds, std::max(memory, math) / seconds});
        before = after;
      }
    }
  }

  void Print(std::ostream& out) const {
    out << device_.name();
    if (!device_.is_cuda()) out << ", " << options_.n_threads << " threads";
    if (options_.exact) out << ", exact";
    out << ", shape " << options_.shape << ", weights " << Name(options_.weights)
        << ", activations " << Name(options_.activations) << std::fixed << std::setprecision(1)
        << "\n"
        << probe_.bandwidth_name() << " bandwidth " << MedianProbe(&Probed::bandwidth) * 1e-9
        << " GB/s, " << probe_.rate_name() << " rate " << MedianProbe(&Probed::rate) * 1e-9
        << " GFLOP/s (medians of " << probes_.size() << " probes)\n"
        << std::left << std::setw(21) << "kernel" << std::right << std::setw(5) << "T"
        << std::setw(8) << "context" << std::setw(12) << "us";
    for (const std::string& name :
         {std::string("GB/s"), std::string("GFLOP/s"), "of " + probe_.bandwidth_name(),
          "of " + probe_.rate_name(), std::string("of bound")}) {
      out << std::setw(11) << name;
    }
    out << "\n";
    for (const Measured& m : measured_) {
      const double seconds = m.Median(&Sample::seconds);
      out << std::left << std::setw(21) << m.c.name << std::right << std::setw(5) << m.c.rows
          << std::setw(8) << (m.c.context > 0 ? std::to_string(m.c.context) : "") << std::setw(12)
          << seconds * 1e6 << std::setw(11) << m.c.bytes / seconds * 1e-9 << std::setw(11)
          << m.c.flops / seconds * 1e-9;
      for (auto field : {&Sample::of_bandwidth, &Sample::of_rate, &Sample::of_bound}) {
        out << std::setw(10) << 100 * m.Median(field) << "%";
      }
      out << "\n";
    }
    out.flush();
  }

  std::string Json() const {
    nlohmann::ordered_json json = {
        {"device", device_.name()},
        {"build_id", BuildId()},
        {"exact", options_.exact},
        {"shape", options_.shape},
        {"threads", options_.n_threads},
        {"weights", std::string(Name(options_.weights))},
        {"activations", std::string(Name(options_.activations))},
        {"bandwidth",
         {{"of", probe_.bandwidth_name()}, {"bytes_per_s", MedianProbe(&Probed::bandwidth)}}},
        {"rate", {{"of", probe_.rate_name()}, {"flop_per_s", MedianProbe(&Probed::rate)}}},
        {"cases", nlohmann::ordered_json::array()}};
    for (const Measured& m : measured_) {
      json["cases"].push_back({{"name", m.c.name},
                               {"rows", m.c.rows},
                               {"context", m.c.context},
                               {"seconds", m.Median(&Sample::seconds)},
                               {"bytes", m.c.bytes},
                               {"flop", m.c.flops},
                               {"of_bound", m.Median(&Sample::of_bound)}});
    }
    return json.dump(2) + "\n";
  }

 private:
  struct Probed {
    double bandwidth = 0, rate = 0;  // bytes and FLOP per second
  };
  struct Sample {
    double seconds, of_bandwidth, of_rate, of_bound;
  };
  static double MedianOf(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
  struct Measured {
    KernelCase c;
    std::vector<Sample> samples;  // one a round

    double Median(double Sample::*field) const {
      std::vector<double> values;
      for (const Sample& sample : samples) values.push_back(sample.*field);
      return MedianOf(std::move(values));
    }
  };

  Probed Probe() {
    probes_.push_back({probe_.Bandwidth(), probe_.Rate()});
    return probes_.back();
  }
  double MedianProbe(double Probed::*field) const {
    std::vector<double> values;
    for (const Probed& probed : probes_) values.push_back(probed.*field);
    return MedianOf(std::move(values));
  }

  const KernelsBenchOptions& options_;
  const Device& device_;
  DeviceProbe& probe_;
  std::vector<Measured> measured_;
  std::vector<Probed> probes_;
};

}  // namespace

absl::Status RunKernelsBench(const KernelsBenchOptions& options, std::ostream& out) {
  ASSIGN_OR_RETURN(const ModelConfig shape, NamedShape(options.shape));
  const int most_rows = *std::max_element(options.rows.begin(), options.rows.end());
  const CudaOptions cuda = {.exact = options.exact, .max_tokens = std::max(most_rows, 64)};
  ASSIGN_OR_RETURN(
      const Device device,
      Device::Open(options.device, {.n_threads = options.n_threads, .avx512 = options.avx512}, cuda,
                   0));
  size_t cold_bytes = (device.is_cuda() ? 1024 : 384) * kMiB;
  if (options.quick) cold_bytes = kMiB;
  const std::unique_ptr<DeviceProbe> probe = device.is_cuda()
                                                 ? MakeCudaDeviceProbe(device.ops(), options.quick)
                                                 : MakeCpuProbe({.n_threads = options.n_threads,
                                                                 .avx512 = options.avx512,
                                                                 .bytes = cold_bytes,
                                                                 .bytes_at_once = cold_bytes / 4});
  KernelCases cases(shape,
                    {.weights = options.weights,
                     .activations = options.activations,
                     .rows = options.rows,
                     .contexts = options.contexts,
                     .only = options.only,
                     .chunks = !device.is_cuda() || options.exact,
                     .cold_bytes = cold_bytes},
                    device.ops(), *probe);
  ASSIGN_OR_RETURN(std::vector<KernelCase> made, cases.Make());
  KernelsBench bench(options, device, *probe, std::move(made));
  bench.Measure();
  bench.Print(out);
  return options.json.empty() ? absl::OkStatus() : WriteFile(options.json, bench.Json());
}

}  // namespace trireme
