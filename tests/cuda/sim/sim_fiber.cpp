/* sim_fiber.cpp - fibers: made by ucontext, which the C library has for every processor, and switched by the compiler's
 * setjmp, which saves a few registers where swapcontext asks the kernel for the signal mask each time.
 */
#include "sim_fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include "sim_asan.h"

#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

static __thread sim_fiber *left; /* whom the last switch left */

static void leaving(sim_fiber *from, sim_fiber *to)
{
    left = from;
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
}

static void arrived(sim_fiber *self)
{
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(self->fake_stack, &stack, &bytes);
    if (!left->stack) { /* an adopted one: now its stack is known */
        left->stack = const_cast<void *>(stack);
        left->stack_bytes = bytes;
    }
}

/* The fake stack goes when its fiber leaves for good: as far as the sanitizer knows, the fiber has one more turn. */
__attribute__((no_sanitize("address"))) static void forget_frames(sim_fiber *f)
{
    __asan_unpoison_memory_region(f->stack, f->stack_bytes);
    if (!f->fake_stack)
        return;
    void *own;
    const void *stack;
    size_t bytes;
    __sanitizer_start_switch_fiber(&own, f->stack, f->stack_bytes);
    __sanitizer_finish_switch_fiber(f->fake_stack, &stack, &bytes);
    __sanitizer_start_switch_fiber(nullptr, stack, bytes);
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
}
#else
static void leaving(sim_fiber *, sim_fiber *) {}
static void arrived(sim_fiber *) {}
static void forget_frames(sim_fiber *) {}
#endif

enum { STACK_BYTES = 256 << 10 }; /* of address space: what is not touched costs nothing */

void sim_fiber_adopt(sim_fiber *self)
{
    *self = {};
    self->started = true;
}

bool sim_fiber_new(sim_fiber *f, void (*entry)())
{
    *f = {};
    const size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    char *at = static_cast<char *>(mmap(nullptr, guard + STACK_BYTES, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0));
    if (at == MAP_FAILED)
        return false;
    mprotect(at, guard, PROT_NONE);
    f->stack = at + guard;
    f->stack_bytes = STACK_BYTES;
    sim_fiber_restart(f, entry);
    return true;
}

void sim_fiber_restart(sim_fiber *f, void (*entry)())
{
    forget_frames(f);
    f->started = false;
    f->fake_stack = nullptr;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->stack_bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
}

void sim_fiber_free(sim_fiber *f)
{
    if (!f->stack)
        return;
    forget_frames(f);
    const size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    munmap(static_cast<char *>(f->stack) - guard, guard + f->stack_bytes);
    f->stack = nullptr;
}

/* Never inlined: __builtin_longjmp must not land in the function that jumps. Not instrumented: before a jump the
 * sanitizer would take back what it knows of the frames, which are only left for a while. */
__attribute__((noinline, no_sanitize("address"))) static void jump(sim_fiber *to)
{
    if (to->started)
        __builtin_longjmp(to->place, 1);
    to->started = true;
    setcontext(&to->context);
    __builtin_trap(); /* setcontext returns only if it cannot */
}

__attribute__((noinline, no_sanitize("address"))) void sim_fiber_switch(sim_fiber *from, sim_fiber *to)
{
    leaving(from, to);
    if (__builtin_setjmp(from->place) == 0)
        jump(to);
    arrived(from);
}

void sim_fiber_entered(sim_fiber *self) { arrived(self); }
