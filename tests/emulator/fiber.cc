#include "emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// void trireme_switch_stack(void** save, void* to): pushes what a callee keeps, leaves the stack
// pointer in *save and goes on where `to` was left.
asm(R"(
.text
.type trireme_switch_stack, @function
trireme_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size trireme_switch_stack, . - trireme_switch_stack
)");
extern "C" void trireme_switch_stack(void** save, void* to);

namespace trireme::emulator {
namespace {

constexpr size_t kGuard = 4096;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStack = size_t{256} << 10;  // redzones make frames larger
#else
constexpr size_t kStack = size_t{64} << 10;
#endif

// Of the OS thread that runs fibers.
thread_local Fiber* running = nullptr;
thread_local void* resumer_stack_pointer = nullptr;
#if defined(__SANITIZE_ADDRESS__)
thread_local const void* resumer_stack = nullptr;
thread_local size_t resumer_stack_bytes = 0;
#endif

}  // namespace

void Fiber::Unmap::operator()(std::byte* stack) const { munmap(stack, kGuard + kStack); }

Fiber::Fiber() {
  void* stack = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED || mprotect(stack, kGuard, PROT_NONE) != 0) {
    std::perror("emulator: no memory for a fiber's stack");
    std::abort();
  }
  stack_.reset(static_cast<std::byte*>(stack));
}

void Fiber::Start(void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  std::byte* low = stack_.get() + kGuard;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(low, kStack);
#endif
  // Six registers, then where to return; a function begins 8 below a multiple of 16.
  auto* top = reinterpret_cast<uint64_t*>(low + kStack) - 1;
  *--top = reinterpret_cast<uint64_t>(&Fiber::Main);
  top -= 6;
  std::memset(top, 0, 6 * sizeof *top);
  stack_pointer_ = top;
}

void Fiber::Resume() {
  running = this;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_.get() + kGuard, kStack);
#endif
  trireme_switch_stack(&resumer_stack_pointer, stack_pointer_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  running = nullptr;
}

void Fiber::Main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &resumer_stack, &resumer_stack_bytes);
#endif
  running->entry_(running->argument_);
  Leave(true);
  std::abort();  // not resumed after its end
}

void Fiber::Yield() { Leave(false); }

void Fiber::Leave(bool for_good) {
  Fiber* self = running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &self->fake_stack_, resumer_stack,
                                 resumer_stack_bytes);
#else
  (void)for_good;
#endif
  trireme_switch_stack(&self->stack_pointer_, resumer_stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self->fake_stack_, &resumer_stack, &resumer_stack_bytes);
#endif
}

}  // namespace trireme::emulator
