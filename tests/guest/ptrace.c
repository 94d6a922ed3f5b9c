/* Tracing: attaching, stops at signals, registers and memory of a stopped process. */
#include "t.h"
#include <sys/ptrace.h>
#include <sys/user.h>
#include <elf.h>

#define STOPPED(pid, want) do { int t_s; EQ(waitpid(pid, &t_s, __WALL), pid); \
    if (!WIFSTOPPED(t_s) || WSTOPSIG(t_s) != (want)) t_fail("status 0x%x, not stopped by %d", t_s, want); } while (0)

static volatile long word = 41;

static void spin(void) {
  for (;;) word = word ? word : 1;
}
TEST(attach_looks_and_leaves) {
  pid_t c = CHILD(spin());
  OK(ptrace(PTRACE_ATTACH, c, 0, 0));
  STOPPED(c, SIGSTOP);
  struct user_regs_struct r;
  OK(ptrace(PTRACE_GETREGS, c, 0, &r));
  CHECK(r.rsp > (unsigned long)&c - (1 << 20) && r.rsp < (unsigned long)&c + (1 << 20));
  EQ(r.cs, 0x33);
  struct iovec v = {&r, sizeof r};
  OK(ptrace(PTRACE_GETREGSET, c, NT_PRSTATUS, &v));
  EQ(v.iov_len, sizeof r);
  char x[16384];
  v = (struct iovec){x, sizeof x};
  OK(ptrace(PTRACE_GETREGSET, c, NT_X86_XSTATE, &v));
  CHECK(v.iov_len >= 512);
  EQ(ptrace(PTRACE_PEEKDATA, c, &word, 0), 41);
  OK(ptrace(PTRACE_POKEDATA, c, &word, 43));
  EQ(ptrace(PTRACE_PEEKDATA, c, &word, 0), 43);
  EQ(word, 41);
  ERR(ptrace(PTRACE_PEEKDATA, c, 8, 0), EIO);
  ERR(ptrace(PTRACE_ATTACH, c, 0, 0), EPERM);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/status", c);
  char tracer[64];
  snprintf(tracer, sizeof tracer, "TracerPid:\t%d\n", getpid());
  CHECK(strstr(t_read_file(path), tracer));
  OK(ptrace(PTRACE_DETACH, c, 0, 0));
  CHECK(strstr(t_read_file(path), "TracerPid:\t0\n"));
  ERR(ptrace(PTRACE_CONT, c, 0, 0), ESRCH);
  OK(kill(c, SIGTERM));
  JOIN_SIGNAL(c, SIGTERM);
}
TEST(attach_interrupts_a_sleeper_which_goes_on) {
  int p[2], q[2];
  OK(pipe(p));
  OK(pipe(q));
  pid_t c = CHILD({
    char b;
    write(q[1], "x", 1);
    EQ(read(p[0], &b, 1), 1);
    _exit(b);
  });
  char b;
  EQ(read(q[0], &b, 1), 1);
  for (int i = 0; i < 20; i++) {
    OK(ptrace(PTRACE_ATTACH, c, 0, 0));
    STOPPED(c, SIGSTOP);
    OK(ptrace(PTRACE_DETACH, c, 0, 0));
  }
  EQ(write(p[1], "\7", 1), 1);
  JOIN_STATUS(c, 7);
}
static volatile sig_atomic_t got;
static void note(int s) { got = s; }
TEST(traced_by_parent_sees_signals) {
  pid_t c = CHILD({
    signal(SIGUSR1, note);
    signal(SIGUSR2, note);
    OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
    ERR(ptrace(PTRACE_TRACEME, 0, 0, 0), EPERM);
    raise(SIGUSR1); /* suppressed */
    EQ(got, 0);
    raise(SIGUSR1); /* becomes the other one */
    EQ(got, SIGUSR2);
    raise(SIGUSR1); /* delivered */
    EQ(got, SIGUSR1);
    _exit(9);
  });
  STOPPED(c, SIGUSR1);
  siginfo_t info;
  OK(ptrace(PTRACE_GETSIGINFO, c, 0, &info));
  EQ(info.si_signo, SIGUSR1);
  EQ(info.si_code, SI_TKILL);
  EQ(waitpid(c, 0, WNOHANG | __WALL), 0);
  ERR(ptrace(PTRACE_CONT, c, 0, 1000), EIO);
  OK(ptrace(PTRACE_CONT, c, 0, 0));
  STOPPED(c, SIGUSR1);
  OK(ptrace(PTRACE_CONT, c, 0, SIGUSR2));
  STOPPED(c, SIGUSR1);
  OK(ptrace(PTRACE_CONT, c, 0, SIGUSR1));
  JOIN_STATUS(c, 9);
}
TEST(traced_exec_traps) {
  pid_t c = CHILD({
    OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
    execl("/bin/true", "true", NULL);
  });
  STOPPED(c, SIGTRAP);
  OK(ptrace(PTRACE_CONT, c, 0, 0));
  JOIN(c);
}
TEST(registers_can_be_set) {
  pid_t c = CHILD({
    OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
    raise(SIGSTOP);
    for (;;) pause();
  });
  STOPPED(c, SIGSTOP);
  struct user_regs_struct r;
  OK(ptrace(PTRACE_GETREGS, c, 0, &r));
  static char stack[65536] __attribute__((aligned(16)));
  r.rip = (unsigned long)_exit;
  r.rdi = 77;
  r.rsp = (unsigned long)(stack + sizeof stack - 8);
  r.orig_rax = -1;
  OK(ptrace(PTRACE_SETREGS, c, 0, &r));
  OK(ptrace(PTRACE_CONT, c, 0, 0));
  JOIN_STATUS(c, 77);
}
TEST(killed_while_stopped) {
  pid_t c = CHILD(spin());
  OK(ptrace(PTRACE_ATTACH, c, 0, 0));
  STOPPED(c, SIGSTOP);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
TEST(end_of_the_tracer_lets_go) {
  pid_t c = CHILD(spin());
  pid_t tracer = CHILD({
    OK(ptrace(PTRACE_ATTACH, c, 0, 0));
    STOPPED(c, SIGSTOP);
    OK(ptrace(PTRACE_CONT, c, 0, 0));
  });
  JOIN(tracer);
  OK(kill(c, SIGTERM));
  JOIN_SIGNAL(c, SIGTERM);
}
static void *thread(void *tid) {
  *(volatile pid_t *)tid = gettid();
  for (;;) pause();
}
TEST(threads_are_traced_one_by_one) {
  volatile pid_t *tids = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t c = CHILD({
    pthread_t t;
    for (int i = 0; i < 3; i++) pthread_create(&t, 0, thread, (void *)(tids + i));
    spin();
  });
  AWAIT(tids[0] && tids[1] && tids[2]);
  for (int i = 0; i < 3; i++) {
    OK(ptrace(PTRACE_ATTACH, tids[i], 0, 0));
    STOPPED(tids[i], SIGSTOP);
  }
  for (int i = 0; i < 3; i++) OK(ptrace(PTRACE_DETACH, tids[i], 0, 0));
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
