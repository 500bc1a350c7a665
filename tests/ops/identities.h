/* identities.h - what must hold of the ops of any backend, whatever the numbers are. */
#ifndef POL_TEST_IDENTITIES_H
#define POL_TEST_IDENTITIES_H

#include "core/backend.h"

/* Runs them all as a group of that name; how many failed. */
int check_identities(const char *name, pol_backend *be);

#endif
