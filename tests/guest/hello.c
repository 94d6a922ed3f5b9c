/* The first thing that must work: no fork, no file system. Run with T_NOFORK=1 on a kernel that cannot fork yet. */
#include "t.h"

TEST(prints) { say("hello"); }
TEST(has_a_pid) { CHECK(syscall(SYS_getpid) > 0); }
TEST(has_memory) {
  char *p = malloc(1 << 20);
  memset(p, 7, 1 << 20);
  EQ(p[123456], 7);
}
