/* Signal frames and stacks that the guest has spoilt. */
#include "t.h"
#include <setjmp.h>
#include <sys/ucontext.h>

static volatile int mode;
static void spoil(int s, siginfo_t *i, void *c) {
  (void)s; (void)i;
  ucontext_t *u = c;
  greg_t *g = u->uc_mcontext.gregs;
  switch (mode) {
  case 0: g[REG_RIP] = 0; break;
  case 1: g[REG_RIP] = 0x8000000000000000; break;
  case 2: g[REG_RIP] = (long)0xffffffff81000000; break;
  case 3: g[REG_RSP] = 0x8000000000000000; g[REG_RIP] = 0; break;
  case 4: g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffl) | 0x10; break; /* the kernel's code segment */
  case 5: g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffl) | 0xfff3; break;
  case 6: g[REG_CSGSFS] = (g[REG_CSGSFS] & 0xffffffffffffl) | 0x18l << 48; break; /* ss */
  case 7: u->uc_mcontext.fpregs = (void *)8; break;
  case 8: u->uc_mcontext.fpregs = (void *)0xffffffff81000000; break;
  case 9: u->uc_mcontext.fpregs->mxcsr = 0xffffffff; break;
  case 10: memset(u->uc_mcontext.fpregs, 0xff, 512); break;
  case 11: g[REG_EFL] |= 0x3000 | 0x20000 | 0x4000; break; /* IOPL, VM, NT */
  case 12: g[REG_EFL] |= 0x100; break; /* single step */
  case 13: memset(u, 0xff, sizeof *u); break;
  case 14: memset((char *)u->uc_mcontext.fpregs + 512, 0xff, 64); break; /* the xsave header */
  }
}
static const char *end_of(int status) {
  static char b[64];
  if (WIFSIGNALED(status))
    snprintf(b, sizeof b, "signal %d", WTERMSIG(status));
  else
    snprintf(b, sizeof b, "exit %d", WEXITSTATUS(status));
  return b;
}
TEST(sigreturn_of_bad_frames) {
  struct rlimit none = {0, 0};
  OK(setrlimit(RLIMIT_CORE, &none));
  for (int m = 0; m < 15; m++) {
    mode = m;
    pid_t c = CHILD({
      struct sigaction a = {.sa_sigaction = spoil, .sa_flags = SA_SIGINFO};
      OK(sigaction(SIGUSR1, &a, 0));
      alarm(5);
      raise(SIGUSR1);
      getpid();
      _exit(3);
    });
    int s;
    EQ(waitpid(c, &s, 0), c);
    say("frame %d: %s", m, end_of(s));
  }
}
TEST(sigreturn_without_a_frame) {
  struct rlimit none = {0, 0};
  OK(setrlimit(RLIMIT_CORE, &none));
  pid_t c = CHILD(syscall(SYS_rt_sigreturn));
  int s;
  EQ(waitpid(c, &s, 0), c);
  CHECK(WIFSIGNALED(s));
  c = CHILD(__asm__ volatile("xor %%esp,%%esp; mov $15,%%eax; syscall" ::: "memory"));
  JOIN_SIGNAL(c, SIGSEGV);
  c = CHILD(__asm__ volatile("mov $0x8000000000000000,%%rsp; mov $15,%%eax; syscall" ::: "memory"));
  JOIN_SIGNAL(c, SIGSEGV);
}
static void nothing(int s) { (void)s; }
static void run_on_stack(void *sp, size_t size) {
  stack_t k = {.ss_sp = sp, .ss_size = size};
  if (sigaltstack(&k, 0)) _exit(40 + errno % 40);
  struct sigaction a = {.sa_handler = nothing, .sa_flags = SA_ONSTACK};
  OK(sigaction(SIGUSR1, &a, 0));
  raise(SIGUSR1);
  _exit(7);
}
TEST(bad_alternate_stacks) {
  struct rlimit none = {0, 0};
  OK(setrlimit(RLIMIT_CORE, &none));
  char *ro = mmap(0, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  void *places[] = {ro, (void *)0x1000, (void *)0x8000000000000000, (void *)0xffffffff81000000, (void *)0x7fffffff0000, (void *)-65536};
  for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
    pid_t c = CHILD(run_on_stack(places[i], 65536));
    int s;
    EQ(waitpid(c, &s, 0), c);
    say("stack %u: %s", i, end_of(s));
  }
  pid_t c = CHILD(run_on_stack(mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), (size_t)-1));
  int s;
  EQ(waitpid(c, &s, 0), c);
  say("huge size: %s", end_of(s));
}
TEST(signal_with_a_bad_stack_pointer) {
  struct rlimit none = {0, 0};
  OK(setrlimit(RLIMIT_CORE, &none));
  unsigned long places[] = {0, 8, 0x8000000000000000, 0xffffffff81000000, 0x7ffffffff000, 0x7fffffffefff, 0x7ffc00000001};
  for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
    pid_t c = CHILD({
      struct sigaction a = {.sa_handler = nothing};
      OK(sigaction(SIGUSR1, &a, 0));
      long pid = getpid();
      __asm__ volatile("mov %0,%%rsp; mov %1,%%eax; mov %2,%%edi; mov %3,%%esi; syscall; hlt" ::"r"(places[i]), "i"(SYS_kill), "r"((int)pid), "i"(SIGUSR1) : "rax", "rdi", "rsi", "rcx", "r11", "memory");
    });
    JOIN_SIGNAL(c, SIGSEGV);
  }
}
TEST(frame_across_a_protected_page) {
  char *p = mmap(0, 3 * 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct rlimit none = {0, 0};
  OK(setrlimit(RLIMIT_CORE, &none));
  OK(mprotect(p + 65536, 65536, PROT_READ));
  pid_t c = CHILD(run_on_stack(p + 65536 + 60000, 70000));
  int s;
  EQ(waitpid(c, &s, 0), c);
  say("%s", end_of(s));
}
