// Fiber: a stack of its own, and a switch to and from it that saves what the System V x86-64 ABI
// says a callee keeps. One OS thread runs a fiber from its start to its end.
#pragma once

#include <cstddef>
#include <memory>

namespace trireme::emulator {

class Fiber {
 public:
  Fiber();
  Fiber(Fiber&&) noexcept = default;
  Fiber& operator=(Fiber&&) noexcept = default;

  // entry(argument) runs at the next Resume(). The fiber is new, or its last entry has returned.
  void Start(void (*entry)(void*), void* argument);

  // Runs the fiber until it yields or returns. Not from within a fiber.
  void Resume();

  // Back to who resumed the fiber that is running.
  static void Yield();

 private:
  [[noreturn]] static void Main();
  static void Leave(bool for_good);

  struct Unmap {
    void operator()(std::byte* stack) const;
  };
  std::unique_ptr<std::byte, Unmap> stack_;  // its lowest page is a guard
  void* stack_pointer_ = nullptr;
  void* fake_stack_ = nullptr;  // AddressSanitizer's, while it does not run
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
};

}  // namespace trireme::emulator
