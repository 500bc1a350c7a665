#include "program.h"
int main(void) { return 77; }
