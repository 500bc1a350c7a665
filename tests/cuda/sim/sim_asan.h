/* sim_asan.h - SIM_ASAN: this is compiled for AddressSanitizer. gcc and clang say so in ways of their own. */
#ifndef SIM_ASAN_H
#define SIM_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif

#endif
