#include "comm/staged_communicator.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace trireme {
namespace {

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> inner, Ops& ops, Ops& host,
                     const WorldOptions& options)
      : inner_(std::move(inner)),
        ops_(ops),
        parts_(ops.Allocate(options.max_parts_bytes)),
        sent_(host.Allocate(options.max_tensor_bytes)),
        received_(host.Allocate(options.max_tensor_bytes)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const Traffic& traffic() const override { return inner_->traffic(); }
  Communicator& host() override { return *inner_; }

  Tensor Parts(int64_t n_parts, int64_t T, int64_t H) override {
    const Tensor parts(parts_.data(), DType::kF32, {n_parts, T, H});
    CHECK_LE(parts.bytes(), parts_.bytes()) << "beyond WorldOptions::max_parts_bytes";
    return parts;
  }

  void AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override {
    bias = BiasToHost(bias, y.dim(1));
    const Tensor on_host = PartsToHost(parts);
    const Tensor result = On(received_, y);
    inner_->AllReduce(result, on_host, sum, bias);
    ops_.Upload(y, result.raw());
  }

  void ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override {
    bias = BiasToHost(bias, y.dim(1));
    const Tensor on_host = PartsToHost(parts);
    const Tensor result = On(received_, y);
    inner_->ReduceScatter(result, on_host, sum, bias);
    ops_.Upload(y, result.raw());
  }

  void AllGather(Tensor y, Tensor x) override {
    const Tensor result = On(received_, y);
    inner_->AllGather(result, ToHost(x));
    ops_.Upload(y, result.raw());
  }

  void Send(Tensor x, int to) override { inner_->Send(ToHost(x), to); }

  void Recv(Tensor x, int from) override {
    const Tensor result = On(received_, x);
    inner_->Recv(result, from);
    ops_.Upload(x, result.raw());
  }

 private:
  // A tensor like x in `buffer`.
  static Tensor On(const Buffer& buffer, Tensor x) {
    CHECK_LE(x.bytes(), buffer.bytes()) << "beyond WorldOptions::max_tensor_bytes";
    return x.At(buffer.data());
  }

  Tensor ToHost(Tensor x) {
    const Tensor copy = On(sent_, x);
    ops_.Download(copy.raw(), x);
    ops_.Synchronize();
    return copy;
  }

  Tensor PartsToHost(Tensor parts) {
    const Tensor copy = inner_->Parts(parts.dim(0), parts.dim(1), parts.dim(2));
    ops_.Download(copy.raw(), parts);
    ops_.Synchronize();
    return copy;
  }

  // Is there when the parts are.
  const float* BiasToHost(const float* bias, int64_t H) {
    if (bias == nullptr) return nullptr;
    bias_.resize(static_cast<size_t>(H));
    ops_.Download(bias_.data(), Tensor(const_cast<float*>(bias), DType::kF32, {H}));
    return bias_.data();
  }

  std::unique_ptr<Communicator> inner_;
  Ops& ops_;
  Buffer parts_;            // on the device
  Buffer sent_, received_;  // on the host
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> inner, Ops& ops,
                                                     Ops& host, const WorldOptions& options) {
  return std::make_unique<StagedCommunicator>(std::move(inner), ops, host, options);
}

}  // namespace trireme
