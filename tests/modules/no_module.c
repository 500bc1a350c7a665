/* no_module.c - a library that is none of Pollard's; and one that another needs. */
__attribute__((visibility("default"))) int pol_test_nothing(void);

int pol_test_nothing(void) { return 0; }
