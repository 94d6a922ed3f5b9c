/* Ways into the kernel other than a plain `syscall`, against what Linux without 32-bit support does. */
#include "t.h"
#include <setjmp.h>
#include <sys/ucontext.h>

static sigjmp_buf back;
static volatile int sig, code, trap;
static volatile long rip, err, syscall_number;
static void caught(int s, siginfo_t *i, void *c) {
  ucontext_t *u = c;
  sig = s;
  code = i->si_code;
  rip = u->uc_mcontext.gregs[REG_RIP];
  trap = u->uc_mcontext.gregs[REG_TRAPNO];
  err = u->uc_mcontext.gregs[REG_ERR];
  siglongjmp(back, 1);
}
static void catch_all(void) {
  static char stack[65536];
  stack_t k = {.ss_sp = stack, .ss_size = sizeof stack};
  OK(sigaltstack(&k, 0));
  struct sigaction a = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  int all[] = {SIGSEGV, SIGILL, SIGBUS, SIGTRAP, SIGFPE, SIGSYS};
  for (int i = 0; i < 6; i++) OK(sigaction(all[i], &a, 0));
}
static int inside(void) {
  const char *e = getenv("T_SANDBOX");
  return e && *e == '1';
}
/* Runs the code; 0 if it comes back, else the signal. */
#define SIGNAL_OF(...) ({ sig = 0; if (!sigsetjmp(back, 1)) { __VA_ARGS__; } sig; })

TEST(int80) {
  if (!inside()) SKIP("the host may have 32-bit support");
  catch_all();
  extern char at_int80[];
  EQ(SIGNAL_OF(__asm__ volatile(".globl at_int80\nat_int80: int $0x80" ::"a"(1), "b"(77) : "memory")), SIGSEGV);
  EQ(rip, (long)at_int80);
  EQ(code, SI_KERNEL);
  EQ(trap, 13);
  EQ(err, 0x402);
}
TEST(sysenter) {
  catch_all();
  int s = SIGNAL_OF(__asm__ volatile("mov %%rsp,%%rbp; sysenter" ::"a"(20) : "memory", "rcx", "rdx"));
  if (inside()) CHECK(s == SIGILL || s == SIGSEGV);
}
TEST(compatibility_mode_int80) {
  if (!inside()) SKIP("the host may have 32-bit support");
  catch_all();
  unsigned char *p = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  CHECK(p == (void *)0x20000000);
  memcpy(p, "\xcd\x80\xf4", 3); /* int $0x80; hlt */
  struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) far = {0x20000000, 0x23};
  int s = SIGNAL_OF(__asm__ volatile("mov $20,%%eax; ljmp *%0" ::"m"(far) : "memory", "rax"));
  CHECK(s == SIGSEGV || s == SIGILL);
}
TEST(compatibility_mode_syscall) {
  if (!inside()) SKIP("the host may have 32-bit support");
  catch_all();
  unsigned char *p = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  memcpy(p, "\x0f\x05\xf4", 3); /* syscall; hlt */
  struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) far = {0x20000000, 0x23};
  int s = SIGNAL_OF(__asm__ volatile("mov $20,%%eax; ljmp *%0" ::"m"(far) : "memory", "rax"));
  CHECK(s == SIGSEGV || s == SIGILL);
}
static long raw(unsigned long number) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(number), "D"(0), "S"(0), "d"(0) : "rcx", "r11", "memory");
  return r;
}
TEST(x32_numbers) {
  EQ(raw(0x40000000 | SYS_getpid), -ENOSYS);
  EQ(raw(0x40000000 | SYS_exit), -ENOSYS);
  EQ(raw(0x40000000 | 520), -ENOSYS); /* x32's own execve */
}
TEST(high_garbage_in_rax) {
  EQ(raw(0x1234567800000000ul | SYS_getpid), getpid());
  EQ(raw(0xffffffff00000000ul | SYS_getppid), getppid());
  EQ(raw(0xfffffffful), -ENOSYS);
  EQ(raw(0x80000000ul | SYS_getpid), -ENOSYS);
}
TEST(vsyscall_page) {
  catch_all();
  long (*time_call)(time_t *) = (void *)0xffffffffff600400;
  volatile long t = 0;
  int s = SIGNAL_OF(t = time_call(0));
  if (s == 0) CHECK(labs(t - time(0)) <= 2);
  s = SIGNAL_OF(time_call((void *)8));
  say("bad pointer: signal %d", s);
  s = SIGNAL_OF((void)*(volatile char *)0xffffffffff600000);
  say("read: signal %d code %d", s, code);
}
TEST(restart_syscall_by_hand) {
  EQ(raw(SYS_restart_syscall), -EINTR);
}
TEST(registers_after_a_call) {
  register long r10 __asm__("r10") = 0x1010, r8 __asm__("r8") = 0x88, r9 __asm__("r9") = 0x99, r12 __asm__("r12") = 0x1212, r13 __asm__("r13") = 0x1313,
                r14 __asm__("r14") = 0x1414, r15 __asm__("r15") = 0x1515;
  long rax = SYS_getpid, rdi = 0xd1, rsi = 0x51, rdx = 0xdd, rcx, r11, after;
  __asm__ volatile("syscall; after_call: lea after_call(%%rip),%[after]"
                   : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "=c"(rcx), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15), [after] "=&b"(after)
                   :
                   : "r11", "memory");
  EQ(rdi, 0xd1); EQ(rsi, 0x51); EQ(rdx, 0xdd); EQ(r8, 0x88); EQ(r9, 0x99); EQ(r10, 0x1010);
  EQ(r12, 0x1212); EQ(r13, 0x1313); EQ(r14, 0x1414); EQ(r15, 0x1515);
  EQ(rcx, after); /* the address after the instruction */
  (void)r11;
}
TEST(flags_around_calls) {
  catch_all();
  long flags, r;
  __asm__ volatile("std; syscall; pushfq; popq %1; cld" : "=a"(r), "=&b"(flags) : "a"(SYS_getpid) : "rcx", "r11", "memory");
  EQ(r, getpid());
  EQ(flags >> 10 & 1, 1);
  /* The alignment check, and an odd stack around the call. */
  __asm__ volatile("pushfq; orq $0x40000,(%%rsp); popfq; syscall; pushfq; andq $~0x40000,(%%rsp); popfq" : "=a"(r) : "a"(SYS_getpid) : "rcx", "r11", "memory", "cc");
  EQ(r, getpid());
  __asm__ volatile("xor %%ebx,%%ebx; stc; syscall; setc %%bl" : "=a"(r), "=&b"(flags) : "a"(SYS_getppid) : "rcx", "r11", "memory");
  EQ(r, getppid());
  EQ(flags & 1, 1);
}
TEST(single_step_over_a_call) {
  catch_all();
  long r = 0;
  int s = SIGNAL_OF(__asm__ volatile("pushfq; orq $0x100,(%%rsp); popfq; syscall; nop; nop" : "=a"(r) : "a"(SYS_getpid) : "rcx", "r11", "memory"));
  EQ(s, SIGTRAP);
  say("code %d", code);
}
TEST(calls_without_a_stack) {
  long r;
  __asm__ volatile("mov %%rsp,%%rbx; xor %%esp,%%esp; syscall; mov %%rbx,%%rsp" : "=a"(r) : "a"(SYS_getpid) : "rbx", "rcx", "r11", "memory");
  EQ(r, getpid());
  __asm__ volatile("mov %%rsp,%%rbx; mov $0x8000000000000000,%%rsp; syscall; mov %%rbx,%%rsp" : "=a"(r) : "a"(SYS_getpid) : "rbx", "rcx", "r11", "memory");
  EQ(r, getpid());
  __asm__ volatile("mov %%rsp,%%rbx; mov $-8,%%rsp; syscall; mov %%rbx,%%rsp" : "=a"(r) : "a"(SYS_getppid) : "rbx", "rcx", "r11", "memory");
  EQ(r, getppid());
}
TEST(segment_bases) {
  unsigned long base = 0x1234567000;
  OK(syscall(SYS_arch_prctl, 0x1001, base)); /* ARCH_SET_GS */
  unsigned long got = 0;
  OK(syscall(SYS_arch_prctl, 0x1004, &got));
  EQ(got, base);
  EQ(getpid(), syscall(SYS_getpid));
  OK(syscall(SYS_arch_prctl, 0x1004, &got));
  EQ(got, base);
  ERR(syscall(SYS_arch_prctl, 0x1001, 0xffff800000000000), EPERM);
  __asm__ volatile("rdgsbase %0" : "=r"(got));
  EQ(got, base);
  __asm__ volatile("wrgsbase %0" ::"r"(0x77770000ul));
  EQ(getppid(), syscall(SYS_getppid));
  __asm__ volatile("rdgsbase %0" : "=r"(got));
  EQ(got, 0x77770000);
  pid_t c = CHILD({
    unsigned long g;
    __asm__ volatile("rdgsbase %0" : "=r"(g));
    EQ(g, 0x77770000);
  });
  JOIN(c);
}
TEST(null_gs_selector_and_writes) {
  unsigned short zero = 0;
  __asm__ volatile("mov %0,%%ds; mov %0,%%es" ::"r"(zero));
  EQ(getpid(), syscall(SYS_getpid));
  struct timespec t = {0, 1000000};
  OK(nanosleep(&t, 0));
}
TEST(privileged_instructions) {
  catch_all();
  say("hlt %d", SIGNAL_OF(__asm__ volatile("hlt")));
  say("cli %d", SIGNAL_OF(__asm__ volatile("cli")));
  say("in %d", SIGNAL_OF(__asm__ volatile("inb $0x80,%%al" ::: "rax")));
  say("wrmsr %d", SIGNAL_OF(__asm__ volatile("wrmsr" ::"a"(0), "c"(0x10), "d"(0))));
  say("mov cr3 %d", SIGNAL_OF(__asm__ volatile("mov %%cr3,%%rax" ::: "rax")));
  say("iret to ring 0 %d", SIGNAL_OF(__asm__ volatile("mov %%rsp,%%rax; push $0x10; push %%rax; pushfq; push $0x8; push $0; iretq" ::: "rax", "memory")));
  say("swapgs %d", SIGNAL_OF(__asm__ volatile("swapgs")));
  say("sysret %d", SIGNAL_OF(__asm__ volatile("sysretq" ::: "rcx")));
}
