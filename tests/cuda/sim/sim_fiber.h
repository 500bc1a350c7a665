/* sim_fiber.h - threads of control that take turns on one thread of the system, by handing over to each other. */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

#include <cstddef>
#include <ucontext.h>

struct sim_fiber {
    void *place[5];     /* where it stopped, as __builtin_setjmp has it */
    ucontext_t context; /* where it starts */
    bool started;
    void *stack;
    size_t stack_bytes;
    void *fake_stack; /* AddressSanitizer's */
};

/* `self` stands for the caller, so that others can hand over to it. */
void sim_fiber_adopt(sim_fiber *self);

/* A fiber that begins with `entry`, which must not return, when it is first handed over to. False: no memory. */
bool sim_fiber_new(sim_fiber *f, void (*entry)());
/* Whatever it was doing is forgotten: it begins anew. */
void sim_fiber_restart(sim_fiber *f, void (*entry)());
void sim_fiber_free(sim_fiber *f);

/* Stops the caller, which is `from`, and goes on where `to` stopped. Returns when something hands over to `from`. */
void sim_fiber_switch(sim_fiber *from, sim_fiber *to);
/* The first thing that an entry does. */
void sim_fiber_entered(sim_fiber *self);

#endif
